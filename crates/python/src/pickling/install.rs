//! `pickling.install()`: plain `pickle`, `copy` and what is built on them handle the same objects.
//!
//! Four hooks, all of which `uninstall()` takes back:
//! - `copyreg.dispatch_table` for every type with a reduction of its own: the public way, for any
//!   pickler that respects it;
//! - `reducer_override` of the two pickler classes of the standard library, for what they never look up
//!   there: functions, classes, exceptions;
//! - `__copy__` and `__deepcopy__` of greenlets, whose class may be derived from;
//! - the tables of `copy` for shallow and deep copies. A copy within the process keeps code and globals
//!   as they are; inside of what is copied deeply, functions with a closure are copied with it.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyFunction, PyList, PyString, PyTuple, PyType};

use super::frames::greenlet;
use super::objects::{self, Kind};
use super::reducer::{CodeMode, Pass, Reducer, reduce};
use super::{errors, maker};

/// What stood in a table before: table, key, value (`None`: nothing).
type Before = (Py<PyAny>, Py<PyAny>, Option<Py<PyAny>>);

static INSTALLED: Mutex<Option<Vec<Before>>> = Mutex::new(None);

/// Sets an entry of a dict, and remembers what was there.
fn set<'py>(
    before: &mut Vec<Before>,
    table: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let old = table.get_item(key)?.map(Bound::unbind);
    before.push((table.clone().unbind().into_any(), key.clone().unbind(), old));
    table.set_item(key, value)
}

/// The dict of a class, also of one that refuses to be changed.
fn class_dict<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: attached; a live type.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(
            class.py(),
            objspace_interp::type_dict::type_dict(class.as_type_ptr().cast()),
        )?
    };
    Ok(dict.cast_into()?)
}

/// Lets `pickle`, `copy` and all that uses them handle what this package handles. Again: no effect.
#[pyfunction]
#[pyo3(signature = (*, exceptions = true))]
pub(crate) fn install(py: Python<'_>, exceptions: bool) -> PyResult<()> {
    if INSTALLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some()
    {
        return Ok(());
    }
    let mut before = Vec::new();
    let done = install_all(py, exceptions, &mut before);
    if let Err(error) = done {
        restore(py, before)?;
        return Err(error);
    }
    let old = INSTALLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(before);
    drop(old);
    Ok(())
}

fn install_all(py: Python<'_>, exceptions: bool, before: &mut Vec<Before>) -> PyResult<()> {
    let copy = py.import("copy")?;
    let table = |name: &str| -> PyResult<Bound<'_, PyDict>> {
        Ok(copy.getattr(name)?.cast_into::<PyDict>()?)
    };
    let (shallow, deep) = (table("_copy_dispatch")?, table("_deepcopy_dispatch")?);
    let registry = py
        .import("copyreg")?
        .getattr("dispatch_table")?
        .cast_into::<PyDict>()?;
    let (by_copyreg, copied, deeply) = (
        maker::get(py, "reduce_plain")?,
        maker::get(py, "copy_one")?,
        maker::get(py, "deepcopy_one")?,
    );
    let kinds = objects::kinds(py)?;
    for class in &kinds.types {
        let class = class.bind(py).clone();
        let kind = kinds.of(&class);
        // A copy of a task would step the same coroutine: `copy` goes on refusing, picklers have the
        // second hook.
        if matches!(kind, Some(Kind::Never(_) | Kind::Globals | Kind::Task)) {
            continue;
        }
        set(before, &registry, &class, &by_copyreg)?;
        match kind {
            // What does not change, or is one of a kind, is its own copy. `copy` knows most of these.
            Some(
                Kind::Code
                | Kind::Function
                | Kind::BuiltinMethod
                | Kind::Module
                | Kind::ContextVar
                | Kind::LruCache
                | Kind::Sentinel
                | Kind::Property
                | Kind::KeyedReference
                | Kind::Match
                | Kind::TypeParameter
                | Kind::WeakMethod
                | Kind::WeakReference,
            ) => {
                let itself = maker::get(py, "itself")?;
                if !shallow.contains(&class)? {
                    set(before, &shallow, &class, &itself)?;
                }
                let known = deep.contains(&class)?;
                if matches!(kind, Some(Kind::Function)) {
                    set(before, &deep, &class, &maker::get(py, "deepcopy_function")?)?;
                } else if !known {
                    set(before, &deep, &class, &maker::get(py, "itself_deeply")?)?;
                }
            }
            // `copy` has its own way with methods, which keeps the function.
            Some(Kind::BoundMethod) => {
                if !shallow.contains(&class)? {
                    set(before, &shallow, &class, &copied)?;
                }
            }
            _ => {
                set(before, &shallow, &class, &copied)?;
                set(before, &deep, &class, &deeply)?;
            }
        }
    }
    if let Some(class) = greenlet::class_if_there(py)? {
        set(before, &registry, &class, &by_copyreg)?;
        let method = py.import("functools")?.getattr("partialmethod")?;
        let dict = class_dict(&class)?;
        for (name, function) in [("__copy__", &copied), ("__deepcopy__", &deeply)] {
            let name = PyString::intern(py, name).into_any();
            set(before, &dict, &name, &method.call1((function,))?)?;
        }
        forget_attributes(&class);
    }
    let reducer = Bound::new(py, Reducer::plain(exceptions))?.into_any();
    let name = intern!(py, "reducer_override").clone().into_any();
    for class in [
        py.import("_pickle")?.getattr("Pickler")?,
        py.import("pickle")?.getattr("_Pickler")?,
    ] {
        let class = class.cast_into::<PyType>()?;
        set(before, &class_dict(&class)?, &name, &reducer)?;
        forget_attributes(&class);
    }
    Ok(())
}

/// Takes back what `install()` did. Not installed: no effect.
#[pyfunction]
pub(crate) fn uninstall(py: Python<'_>) -> PyResult<()> {
    let before = INSTALLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    restore(py, before.unwrap_or_default())
}

fn restore(py: Python<'_>, before: Vec<Before>) -> PyResult<()> {
    for (table, key, value) in before.into_iter().rev() {
        let table = table.bind(py);
        match value {
            Some(value) => table.set_item(key, value)?,
            None => {
                let _ = table.del_item(key);
            }
        }
    }
    for class in [
        py.import("_pickle")?.getattr("Pickler")?,
        py.import("pickle")?.getattr("_Pickler")?,
    ] {
        forget_attributes(&class.cast_into::<PyType>()?);
    }
    if let Some(class) = greenlet::known_class(py)? {
        forget_attributes(&class);
    }
    Ok(())
}

/// The interpreter caches the attributes of classes.
fn forget_attributes(class: &Bound<'_, PyType>) {
    // SAFETY: attached; a live type.
    unsafe { pyo3::ffi::PyType_Modified(class.as_type_ptr()) };
}

/// The reduction of one object for a pickler that respects `copyreg`.
#[pyfunction]
fn reduce_plain<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    match reduce(object, &Pass::new(CodeMode::Plain, true))? {
        Some(reduced) => Ok(reduced),
        // By name: a string says so.
        None => object.getattr(intern!(py, "__qualname__")),
    }
}

#[pyfunction]
fn itself<'py>(object: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    object
}

#[pyfunction]
fn itself_deeply<'py>(object: Bound<'py, PyAny>, _memo: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    object
}

/// The parts of a reduction: make, arguments, state, setter.
type Parts<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyTuple>,
    Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
);

fn parts<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Parts<'py>>> {
    let Some(reduced) = reduce(object, &Pass::new(CodeMode::Plain, true))? else {
        return Ok(None);
    };
    let reduced = reduced
        .cast_into::<PyTuple>()
        .map_err(|_| errors::pickling("a reduction that cannot be copied"))?;
    let (make, arguments) = (
        reduced.get_item(0)?,
        reduced.get_item(1)?.cast_into::<PyTuple>()?,
    );
    let state = match (reduced.get_item(2), reduced.get_item(5)) {
        (Ok(state), Ok(setter)) if !setter.is_none() => Some((state, setter)),
        (Ok(state), _) if !state.is_none() => {
            return Err(errors::pickling("a reduction that cannot be copied"));
        }
        _ => None,
    };
    Ok(Some((make, arguments, state)))
}

/// `copy.copy`: a new object of the same parts.
#[pyfunction]
fn copy_one<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let Some((make, arguments, state)) = parts(object)? else {
        return Ok(object.clone());
    };
    let made = make.call1(arguments)?;
    if let Some((state, setter)) = state {
        setter.call1((&made, state))?;
    }
    Ok(made)
}

/// `copy.deepcopy`: a new object of copied parts.
#[pyfunction]
fn deepcopy_one<'py>(
    object: &Bound<'py, PyAny>,
    memo: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let Some((make, arguments, state)) = parts(object)? else {
        return Ok(object.clone());
    };
    // Functions with closures are copied from here on.
    let mark = memo_key(maker::get(py, "deepcopy_one")?.as_any());
    memo.set_item(mark, py.None())?;
    let deep = Deep {
        copy: py
            .import(intern!(py, "copy"))?
            .getattr(intern!(py, "deepcopy"))?,
        memo: memo.clone(),
    };
    let arguments = arguments
        .iter()
        .map(|argument| deep.copy(&argument))
        .collect::<PyResult<Vec<_>>>()?;
    // An argument may contain the object itself, which is then copied already.
    if let Some(made) = memo.get_item(memo_key(object))? {
        return Ok(made);
    }
    let made = make.call1(PyTuple::new(py, arguments)?)?;
    memo.set_item(memo_key(object), &made)?;
    deep.keep(object)?;
    if let Some((state, setter)) = state {
        setter.call1((&made, deep.copy(&state)?))?;
    }
    Ok(made)
}

/// Functions are their own copies, but for those with a closure inside of what is copied here.
#[pyfunction]
fn deepcopy_function<'py>(
    function: &Bound<'py, PyFunction>,
    memo: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let mark = memo_key(maker::get(py, "deepcopy_one")?.as_any());
    let inside = memo.contains(mark)?;
    if !inside || function.getattr(intern!(py, "__closure__"))?.is_none() {
        return Ok(function.clone().into_any());
    }
    deepcopy_one(function, memo)
}

fn memo_key(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr() as usize
}

struct Deep<'py> {
    copy: Bound<'py, PyAny>,
    memo: Bound<'py, PyDict>,
}

impl<'py> Deep<'py> {
    /// A deep copy of a part of a reduction.
    fn copy(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        if let Some(known) = self.memo.get_item(memo_key(value))? {
            return Ok(known);
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            let items = tuple
                .iter()
                .map(|item| self.copy(&item))
                .collect::<PyResult<Vec<_>>>()?;
            return Ok(PyTuple::new(py, items)?.into_any());
        }
        // `copy` would drop where they came from.
        if value.is_instance_of::<PyBaseException>() {
            return deepcopy_one(value, &self.memo);
        }
        // It knows no way with these, but they do not change.
        if value.is_instance_of::<PyCode>() {
            return Ok(value.clone());
        }
        self.copy.call1((value, &self.memo))
    }

    /// Keeps an object alive as long as the memo, which knows it by its address.
    fn keep(&self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = object.py();
        let key = memo_key(self.memo.as_any());
        if let Some(kept) = self.memo.get_item(key)? {
            kept.cast::<PyList>()?.append(object)
        } else {
            self.memo.set_item(key, PyList::new(py, [object])?)
        }
    }
}

/// Registers what stands in the tables.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(reduce_plain, module)?)?;
    maker::add(module, wrap_pyfunction!(itself, module)?)?;
    maker::add(module, wrap_pyfunction!(itself_deeply, module)?)?;
    maker::add(module, wrap_pyfunction!(copy_one, module)?)?;
    maker::add(module, wrap_pyfunction!(deepcopy_one, module)?)?;
    maker::add(module, wrap_pyfunction!(deepcopy_function, module)?)
}
