//! Classes without attributes, made so that no code of the program runs: no metaclass, no
//! `__init_subclass__`. What these did to the class when it was defined stands in its attributes, which
//! are set afterwards; their other effects are not repeated, and the arguments of the class statement
//! are not known.
//!
//! `type.__new__` calls `__init_subclass__` of the next class in the order of method resolution. Where
//! that is a function of a base, the class is made by a passing metaclass, in whose order a class with
//! an `__init_subclass__` that does nothing comes next; then it is given its own metaclass, and its
//! order is computed again.

use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyType};

/// A class of this metaclass, with what is in `namespace`; nobody has been told of it.
pub(super) fn make<'py>(
    meta: &Bound<'py, PyType>,
    name: &Bound<'py, PyAny>,
    bases: &Bound<'py, PyTuple>,
    namespace: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = meta.py();
    if !made_by_type(meta)? {
        // Written in C, or `enum`: only its own way gives a class that works.
        return meta.call1((name, bases, namespace));
    }
    let new = py.get_type::<PyType>().getattr(intern!(py, "__new__"))?;
    let class = if announces(bases)? {
        let passing = passing_metaclass(meta)?;
        let class = new
            .call1((&passing, name, bases, namespace))?
            .cast_into::<PyType>()?;
        // SAFETY: `passing` derives from `meta` and adds neither slots nor a dict; `class` is a heap
        // type that was just made by it and that no other code has seen.
        unsafe {
            objspace_interp::type_dict::set_metaclass(class.as_type_ptr(), meta.as_type_ptr());
        }
        let own = class.getattr(intern!(py, "__bases__"))?;
        class.setattr(intern!(py, "__bases__"), own)?;
        class.into_any()
    } else {
        new.call1((meta, name, bases, namespace))?
    };
    let abc = py.import(intern!(py, "abc"))?.getattr("ABCMeta")?;
    if meta.is_subclass(&abc)? {
        py.import("_abc")?.call_method1("_abc_init", (&class,))?;
    }
    Ok(class)
}

/// Whether `type.__new__` is what makes classes of this metaclass in the end.
fn made_by_type(meta: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = meta.py();
    if meta.is_subclass(&py.import("enum")?.getattr("EnumType")?)? {
        return Ok(false);
    }
    let object = py.get_type::<PyAny>();
    for class in meta.mro() {
        if class.is(&object) || class.is(py.get_type::<PyType>()) {
            continue;
        }
        let dict = class.getattr(intern!(py, "__dict__"))?;
        if let Ok(new) = dict.get_item(intern!(py, "__new__"))
            && new.is_instance_of::<PyCFunction>()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a base has an `__init_subclass__` other than that of `object`.
fn announces(bases: &Bound<'_, PyTuple>) -> PyResult<bool> {
    let py = bases.py();
    let object = py.get_type::<PyAny>();
    for base in bases {
        for class in base.cast_into::<PyType>()?.mro() {
            let dict = class.getattr(intern!(py, "__dict__"))?;
            if dict.contains(intern!(py, "__init_subclass__"))? && !class.is(&object) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A subclass of a metaclass whose classes find an `__init_subclass__` that does nothing.
fn passing_metaclass<'py>(meta: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    static NAMESPACE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let py = meta.py();
    let namespace = NAMESPACE.get_or_try_init(py, || {
        let names = PyDict::new(py);
        py.run(
            c_str!(
                "class Silent:\n\
                 \x20   __slots__ = ()\n\
                 \x20   def __init_subclass__(cls): pass\n\
                 def mro(cls, of=type.mro, silent=Silent):\n\
                 \x20   own, *rest = of(cls)\n\
                 \x20   return [own, silent, *rest]\n"
            ),
            Some(&names),
            Some(&names),
        )?;
        let namespace = PyDict::new(py);
        namespace.set_item("mro", names.get_item("mro")?)?;
        namespace.set_item("__slots__", PyTuple::empty(py))?;
        PyResult::Ok(namespace.unbind())
    })?;
    let type_of = py.get_type::<PyType>();
    type_of.getattr(intern!(py, "__new__"))?.call1((
        meta.get_type(),
        "passing",
        (meta,),
        namespace.bind(py).copy()?,
    ))
}
