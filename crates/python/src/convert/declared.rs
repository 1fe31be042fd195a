//! Classes that this process has declared, for one session or for all: instances of them travel by
//! value (`by_value`), or the local class is taken for the other side's class of that name (`adopt`).
//!
//! Nothing is made here by the peer's word alone: an instance that comes by value is made only of a
//! class that is declared *here*. It is made without running code of the class: by the `__new__` of its
//! built-in base, and by setting the attributes of its `__dict__` and `__slots__`. The peer cannot put
//! anything in the place of a method.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple, PyType};

use crate::remote::class::statics;

/// One declared class.
struct Declared {
    class: Py<PyType>,
    by_value: bool,
}

/// The declared classes of a session, or of the process.
#[derive(Default)]
pub(crate) struct Classes(Mutex<HashMap<(String, String), Declared>>);

static EVERYWHERE: Mutex<Option<Classes>> = Mutex::new(None);

/// How a declared class travels.
pub(crate) struct Found<'py> {
    pub(crate) class: Bound<'py, PyType>,
    pub(crate) by_value: bool,
}

impl Classes {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Declared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares `class`. `TypeError` if its instances cannot be made from their parts.
    pub(crate) fn declare(&self, class: &Bound<'_, PyType>, by_value: bool) -> PyResult<()> {
        if by_value {
            base_of(class)?;
        }
        let name = name_of(class)?;
        let mut classes = self.lock();
        let declared = Declared {
            class: class.clone().unbind(),
            by_value: by_value || classes.get(&name).is_some_and(|known| known.by_value),
        };
        let old = classes.insert(name, declared);
        drop(classes);
        drop(old);
        Ok(())
    }

    fn find<'py>(&self, py: Python<'py>, name: &(String, String)) -> Option<Found<'py>> {
        self.lock().get(name).map(|declared| Found {
            class: declared.class.bind(py).clone(),
            by_value: declared.by_value,
        })
    }

    /// What is declared under a name, in this session or everywhere.
    pub(crate) fn named<'py>(
        &self,
        py: Python<'py>,
        module: &str,
        qualname: &str,
    ) -> Option<Found<'py>> {
        let name = (module.to_owned(), qualname.to_owned());
        let own = self.find(py, &name);
        if own.is_some() {
            return own;
        }
        let everywhere = EVERYWHERE.lock().unwrap_or_else(PoisonError::into_inner);
        everywhere.as_ref().and_then(|all| all.find(py, &name))
    }

    /// Whether instances of exactly `class` travel by value.
    pub(crate) fn sends_by_value(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        if self.lock().is_empty()
            && EVERYWHERE
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_none()
        {
            return Ok(false);
        }
        let Ok((module, qualname)) = name_of(class) else {
            return Ok(false);
        };
        Ok(self
            .named(class.py(), &module, &qualname)
            .is_some_and(|found| found.by_value && found.class.is(class)))
    }
}

/// Instances of the class travel by value in every session of this process.
///
/// Both sides have to declare the class, each its own of that module and qualified name: nothing is
/// made from a peer's words that was not declared here. What travels is the value of a built-in base,
/// the `__dict__` and the `__slots__`; neither `__init__` nor any other code of the class runs. Returns
/// the class, so that it can be used as a decorator. Raises `TypeError` for a class whose instances
/// are made by C code.
#[pyfunction]
#[pyo3(signature = (cls, /))]
pub(crate) fn by_value<'py>(cls: Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let class = cls;
    base_of(&class)?;
    let mut everywhere = EVERYWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    everywhere.get_or_insert_default();
    drop(everywhere);
    // Declaring runs code (the names of a class may be anything): not under the lock.
    let name = name_of(&class)?;
    let declared = Declared {
        class: class.clone().unbind(),
        by_value: true,
    };
    let everywhere = EVERYWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    let old = everywhere
        .as_ref()
        .and_then(|all| all.lock().insert(name, declared));
    drop(everywhere);
    drop(old);
    Ok(class)
}

/// The module and the qualified name of a class.
pub(crate) fn name_of(class: &Bound<'_, PyType>) -> PyResult<(String, String)> {
    let module = class.getattr("__module__")?.extract::<String>()?;
    Ok((module, class.qualname()?.to_string()))
}

/// How the instances of a class are made.
#[derive(Clone, Copy, PartialEq)]
enum Base {
    Object,
    /// Filled after they are made.
    List,
    Dict,
    Set,
    /// Made of a value.
    Value,
    Enum,
}

fn is_enum(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    class
        .get_type()
        .is_subclass(&py.import("enum")?.getattr("EnumType")?)
}

fn base_of(class: &Bound<'_, PyType>) -> PyResult<Base> {
    if is_enum(class)? {
        return Ok(Base::Enum);
    }
    let base = statics::builtin_base(class)?;
    let name = base.name()?;
    Ok(match name.to_str()? {
        _ if !statics::is_heap(class) => {
            return Err(cannot(
                class,
                "it is a built-in type, which has its own rule",
            ));
        }
        "object" => Base::Object,
        "list" => Base::List,
        "dict" => Base::Dict,
        "set" => Base::Set,
        "tuple" | "frozenset" | "int" | "float" | "complex" | "str" | "bytes" => Base::Value,
        other => {
            let reason = format!("its instances are made by C code ({other})");
            return Err(cannot(class, &reason));
        }
    })
}

fn cannot(class: &Bound<'_, PyType>, reason: &str) -> PyErr {
    let name = class
        .qualname()
        .map_or_else(|_| "?".into(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "instances of {name} cannot travel by value: {reason}"
    ))
}

/// What an instance is made of.
pub(crate) struct State<'py> {
    /// The value of the built-in base: the name of a member of an enum, a list of items, a list of
    /// pairs, or the plain value; `None` where there is none.
    pub(crate) value: Bound<'py, PyAny>,
    /// Attributes, by name.
    pub(crate) attributes: Vec<(Bound<'py, PyString>, Bound<'py, PyAny>)>,
}

/// Takes an instance of `class` apart. Runs no code of the class.
pub(crate) fn state<'py>(
    object: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
) -> PyResult<State<'py>> {
    let py = object.py();
    let base = base_of(class)?;
    let builtin = statics::builtin_base(class)?;
    let value = match base {
        Base::Enum => {
            // A combination of flags has no name of its own.
            let value = object.getattr("_value_")?;
            return Ok(State {
                value,
                attributes: Vec::new(),
            });
        }
        Base::Object => py.None().into_bound(py),
        Base::List => PyTuple::new(py, object.cast::<PyList>()?.iter())?.into_any(),
        Base::Set => PyTuple::new(py, object.cast::<PySet>()?.iter())?.into_any(),
        Base::Dict => {
            let pairs = object.cast::<PyDict>()?.iter();
            let pairs: Vec<_> = pairs
                .map(|(key, value)| PyTuple::new(py, [key, value]))
                .collect::<PyResult<_>>()?;
            PyTuple::new(py, pairs)?.into_any()
        }
        Base::Value => plain(object, &builtin)?,
    };
    let mut attributes = Vec::new();
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        for (name, entry) in &statics::dict(&base)? {
            if statics::is_member(&entry)
                && let Ok(name) = name.cast_into::<PyString>()
                && let Ok(value) = entry.call_method1("__get__", (object,))
            {
                attributes.push((name, value));
            }
        }
    }
    if let Some(dict) = instance_dict(object)? {
        for (name, value) in &dict {
            let name = name
                .cast_into::<PyString>()
                .map_err(|_| cannot(class, "an attribute's name is not a str"))?;
            attributes.push((name, value));
        }
    }
    Ok(State { value, attributes })
}

/// The plain value of an instance of a subclass.
fn plain<'py>(
    object: &Bound<'py, PyAny>,
    builtin: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    match builtin.name()?.to_str()? {
        "tuple" => Ok(PyTuple::new(py, object.cast::<PyTuple>()?.iter())?.into_any()),
        "frozenset" => Ok(PyTuple::new(py, object.cast::<PyFrozenSet>()?.iter())?.into_any()),
        "str" => builtin.call_method1("__str__", (object,)).and_then(|text| {
            // Of a subclass, `str.__str__` is the object itself.
            let whole = pyo3::types::PySlice::full(py);
            builtin.call_method1("__getitem__", (text, whole))
        }),
        "bytes" => Ok(pyo3::types::PyBytes::new(py, object.extract::<&[u8]>()?).into_any()),
        "int" => builtin.call_method1("__int__", (object,)),
        "float" => builtin.call_method1("__float__", (object,)),
        _ => builtin.call_method1("__pos__", (object,)),
    }
}

fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    // SAFETY: attached, with a live object; null means that there is no dict, with an error set.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(
            object.py(),
            pyo3::ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut()),
        )
    };
    match dict {
        Ok(dict) => Ok(Some(dict.cast_into::<PyDict>()?)),
        Err(_) => Ok(None),
    }
}

/// A new instance of a declared class. Only an immutable base has its value yet.
pub(crate) fn make<'py>(
    class: &Bound<'py, PyType>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match base_of(class)? {
        Base::Enum => class.call1((value,)),
        Base::Value => statics::builtin_base(class)?.call_method1("__new__", (class, value)),
        _ => statics::builtin_base(class)?.call_method1("__new__", (class,)),
    }
}

/// Puts the contents and the attributes into a new instance.
pub(crate) fn fill<'py>(
    object: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
    value: &Bound<'py, PyAny>,
    attributes: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<()> {
    let base = base_of(class)?;
    let builtin = statics::builtin_base(class)?;
    match base {
        Base::Enum => return Ok(()),
        Base::List => drop(builtin.call_method1("extend", (object, value))?),
        Base::Dict | Base::Set => drop(builtin.call_method1("update", (object, value))?),
        Base::Object | Base::Value => {}
    }
    let mut dict = None;
    for (name, value) in attributes {
        let text = name.to_string();
        let entry = statics::lookup(class, name.as_any())?;
        if let Some(entry) = &entry
            && statics::is_member(entry)
        {
            entry.call_method1("__set__", (object, value))?;
            continue;
        }
        let special = text.starts_with("__") && text.ends_with("__");
        let method = entry.is_some_and(|entry| statics::descriptor(&entry) != (false, false));
        if special || method {
            return Err(cannot(
                class,
                &format!("the other side sent {text:?} as an attribute, which is none here"),
            ));
        }
        if dict.is_none() {
            dict = instance_dict(object)?;
        }
        let Some(dict) = &dict else {
            let reason = format!("it has no attribute {text:?} here");
            return Err(cannot(class, &reason));
        };
        dict.set_item(name, value)?;
    }
    Ok(())
}
