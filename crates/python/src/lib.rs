//! The extension module `objspace._core`. This file only declares the module.
use pyo3::prelude::*;

mod remote;

/// The compiled half of objspace; import `objspace` instead.
#[pymodule(gil_used = true)]
mod _core {
    use super::*;

    #[pymodule_export]
    use crate::remote::parts::_parts;

    #[pymodule_init]
    fn init(_m: &Bound<'_, PyModule>) -> PyResult<()> {
        Ok(())
    }
}
