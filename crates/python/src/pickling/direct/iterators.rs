//! Builtin iterators and ranges, which say by themselves what they are made of.

use objspace_interp::iterators;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::{Unfit, Writer, Written, opcode};

struct Known {
    /// The addresses of the types; they live as long as the process. The first two are those of
    /// iterators over lists and tuples.
    types: [usize; TYPES.len()],
    /// The function that makes these two, if they are laid out as is known.
    iter: Option<Py<PyAny>>,
    builtins: Py<PyDict>,
    /// What pickle itself asks for reducers.
    registry: Py<PyDict>,
}

const TYPES: [&std::ffi::CStr; 12] = [
    c"iter([])",
    c"iter(())",
    c"iter(range(0))",
    c"range(0)",
    c"iter('')",
    c"iter('\\xff')",
    c"iter(b'')",
    c"reversed([])",
    c"enumerate(())",
    c"zip()",
    c"slice(None)",
    c"iter(range(1 << 70))",
];

fn known(py: Python<'_>) -> PyResult<&'static Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_try_init(py, || {
        let builtins = py.import("builtins")?.dict();
        let mut types = [0; TYPES.len()];
        for (address, expression) in types.iter_mut().zip(TYPES) {
            let object = py.eval(expression, Some(&builtins), None)?;
            *address = object.get_type_ptr() as usize;
        }
        // SAFETY: attached.
        let iter = if unsafe { iterators::matches() } {
            let iter = builtins.get_item("iter")?;
            let iter = iter.filter(|iter| iter.get_type_ptr() == &raw mut ffi::PyCFunction_Type);
            iter.map(Bound::unbind)
        } else {
            None
        };
        let registry = py.import("copyreg")?.getattr("dispatch_table")?;
        Ok(Known {
            types,
            iter,
            builtins: builtins.unbind(),
            registry: registry.cast_into::<PyDict>()?.unbind(),
        })
    })
}

/// The list or tuple of an iterator, and the index of its next item.
fn position<'py>(iterator: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, isize)> {
    // SAFETY: attached; an iterator over a list or tuple, from which the result is borrowed.
    unsafe {
        let (sequence, index) = iterators::position(iterator.as_ptr())?;
        Some((Bound::from_borrowed_ptr(iterator.py(), sequence), index))
    }
}

/// Whether a function in `copyreg` says how objects of this class are pickled.
pub(super) fn is_dispatched(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    known(py)?.registry.bind(py).contains(class)
}

impl<'py> Writer<'py> {
    pub(super) fn iterator(
        &mut self,
        object: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> Written {
        let py = self.py;
        let known = known(py)?;
        let address = class.as_ptr() as usize;
        if !known.types.contains(&address) || known.registry.bind(py).contains(class)? {
            return Err(Unfit);
        }
        if known.types[..2].contains(&address)
            && let Some(iter) = &known.iter
            && let Some((sequence, index)) = position(object)
        {
            let iter = iter.bind(py);
            if !self.again(iter.as_ptr() as usize) {
                let found = known.builtins.bind(py).get_item(intern!(py, "iter"))?;
                if !found.is_some_and(|found| found.is(iter)) {
                    return Err(Unfit);
                }
                self.global(iter, "builtins", "iter")?;
            }
            self.object(&sequence)?;
            self.out.push(opcode::TUPLE1);
            self.called(object)?;
            self.int(index as i64);
            self.put(opcode::BUILD);
            return Ok(());
        }
        let reduced = object.call_method0(intern!(py, "__reduce__"))?;
        let reduced = reduced.cast_into_exact::<PyTuple>().map_err(|_| Unfit)?;
        if !matches!(reduced.len(), 2 | 3) {
            return Err(Unfit);
        }
        self.builtin_named(known, &reduced.get_item(0)?)?;
        let arguments = reduced.get_item(1)?;
        let arguments = arguments.cast_into_exact::<PyTuple>().map_err(|_| Unfit)?;
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
        self.called(object)?;
        if let Ok(state) = reduced.get_item(2)
            && !state.is_none()
        {
            self.object(&state)?;
            self.put(opcode::BUILD);
        }
        Ok(())
    }

    /// Refers to a function or class of `builtins` that is there under its own name.
    fn builtin_named(&mut self, known: &Known, object: &Bound<'py, PyAny>) -> Written {
        if self.again(object.as_ptr() as usize) {
            return Ok(());
        }
        let name = object.getattr(intern!(self.py, "__name__"))?;
        let name = name.cast_into_exact::<PyString>().map_err(|_| Unfit)?;
        let found = known.builtins.bind(self.py).get_item(&name)?;
        let module = object.getattr(intern!(self.py, "__module__"))?;
        let module = module.cast_into_exact::<PyString>().map_err(|_| Unfit)?;
        if !found.is_some_and(|found| found.is(object)) || module.to_str()? != "builtins" {
            return Err(Unfit);
        }
        self.global(object, "builtins", name.to_str()?)
    }

    /// Calls what makes an iterator, and remembers the iterator.
    fn called(&mut self, object: &Bound<'py, PyAny>) -> Written {
        // An argument has led back to it: leave that to who knows how.
        if self.memo.get(object.as_ptr() as usize).is_some() {
            return Err(Unfit);
        }
        self.put(opcode::REDUCE);
        self.remember(object);
        Ok(())
    }
}
