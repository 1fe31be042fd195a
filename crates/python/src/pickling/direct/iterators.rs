//! Builtin iterators and ranges, which say by themselves what they are made of.

use std::collections::HashSet;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::{Unfit, Writer, Written, opcode};

struct Known {
    /// The addresses of the types; they live as long as the process.
    types: HashSet<usize>,
    builtins: Py<PyDict>,
    /// What pickle itself asks for reducers.
    registry: Py<PyDict>,
}

fn known(py: Python<'_>) -> PyResult<&'static Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_try_init(py, || {
        let builtins = py.import("builtins")?.dict();
        let mut types = HashSet::new();
        for expression in [
            c"iter([])",
            c"iter(())",
            c"iter(range(0))",
            c"iter(range(1 << 70))",
            c"iter('')",
            c"iter('\\xff')",
            c"iter(b'')",
            c"reversed([])",
            c"enumerate(())",
            c"zip()",
            c"range(0)",
            c"slice(None)",
        ] {
            let object = py.eval(expression, Some(&builtins), None)?;
            types.insert(object.get_type_ptr() as usize);
        }
        let registry = py.import("copyreg")?.getattr("dispatch_table")?;
        Ok(Known {
            types,
            builtins: builtins.unbind(),
            registry: registry.cast_into::<PyDict>()?.unbind(),
        })
    })
}

impl<'py> Writer<'py> {
    pub(super) fn iterator(
        &mut self,
        object: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> Written {
        let py = self.py;
        let known = known(py)?;
        let is_known = known.types.contains(&(class.as_ptr() as usize));
        if !is_known || known.registry.bind(py).contains(class)? {
            return Err(Unfit);
        }
        let reduced = object.call_method0(intern!(py, "__reduce__"))?;
        let reduced = reduced.cast_into_exact::<PyTuple>().map_err(|_| Unfit)?;
        if !matches!(reduced.len(), 2 | 3) {
            return Err(Unfit);
        }
        let make = reduced.get_item(0)?;
        let arguments = reduced.get_item(1)?;
        let arguments = arguments.cast_into_exact::<PyTuple>().map_err(|_| Unfit)?;
        if !self.again(make.as_ptr() as usize) {
            let name = make.getattr(intern!(py, "__name__"))?;
            let name = name.cast_into_exact::<PyString>().map_err(|_| Unfit)?;
            let found = known.builtins.bind(py).get_item(&name)?;
            if !found.is_some_and(|found| found.is(&make)) {
                return Err(Unfit);
            }
            self.global(&make, "builtins", name.to_str()?)?;
        }
        let count = arguments.len();
        match count {
            0 => self.put(opcode::EMPTY_TUPLE),
            1..=3 => {}
            _ => self.put(opcode::MARK),
        }
        for argument in arguments.iter_borrowed() {
            self.object(&argument)?;
        }
        if count > 0 {
            self.tuple_of(count);
        }
        // One of them led back to the iterator: leave that to who knows how.
        if self.memo.get(object.as_ptr() as usize).is_some() {
            return Err(Unfit);
        }
        self.put(opcode::REDUCE);
        self.remember(object);
        if let Ok(state) = reduced.get_item(2)
            && !state.is_none()
        {
            self.object(&state)?;
            self.put(opcode::BUILD);
        }
        Ok(())
    }
}
