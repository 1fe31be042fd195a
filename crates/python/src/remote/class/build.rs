//! A real class out of a shape.
use std::collections::HashMap;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTypeInfo, intern};

use super::attribute::{Decision, RemoteAttribute, RemoteDescriptor, RemoteFact, Target};
use super::describe::ABCS;
use super::function::{self, Maker, annotation, default_of};
use super::generic::{self, Parameters};
use super::meta::{self, KEY, Record, set_here};
use super::{extra, flag, kind, shape, source, statics};

/// Makes the class that `description` describes (see [`super::shape`]).
///
/// `bases` are the local classes for the bases of the description, which itself may hold classes of
/// this process by now (the caller decodes it as a whole). `access` answers for the remote class, see
/// the module; `label` names the other side where a file name must not be taken for one of this
/// machine. Asks nothing.
///
/// # Errors
/// `TypeError` or `ValueError` for a description that is none, or for bases that do not fit together.
pub(crate) fn build<'py>(
    py: Python<'py>,
    description: &Bound<'py, PyTuple>,
    bases: &Bound<'py, PyTuple>,
    access: &Bound<'py, PyAny>,
    label: &str,
) -> PyResult<Bound<'py, PyType>> {
    if description.len() != shape::LEN {
        return Err(PyValueError::new_err("a malformed description of a class"));
    }
    let name: String = description.get_item(shape::NAME)?.extract()?;
    let qualname: String = description.get_item(shape::QUALNAME)?.extract()?;
    let module = description.get_item(shape::MODULE)?;
    let flags: u32 = description.get_item(shape::FLAGS)?.extract()?;
    let visible = visible(description, flags)?;
    let extras = description
        .get_item(shape::EXTRAS)?
        .cast::<PyTuple>()?
        .iter()
        .map(|item| item.extract())
        .collect::<PyResult<HashMap<String, Bound<'py, PyAny>>>>()?;

    let globals = PyDict::new(py);
    globals.set_item(intern!(py, "__name__"), &module)?;
    globals.set_item(
        intern!(py, "__builtins__"),
        py.import(intern!(py, "builtins"))?,
    )?;
    let maker = Maker {
        globals,
        module: module.clone(),
        qualname: qualname.clone(),
        file: match extras.get(extra::FILE) {
            Some(told) => function::file_here(told, access, label)?,
            None => PyString::new(py, &format!("<remote class [{label}]>")),
        },
        access,
        label,
    };
    let builder = Builder {
        py,
        access,
        maker,
        flags,
        name: &name,
        has_source: extras.contains_key(extra::FILE),
    };
    if builder.has_source {
        source::install(py)?;
    }

    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "__module__"), &module)?;
    dict.set_item(intern!(py, "__qualname__"), &qualname)?;
    dict.set_item(intern!(py, "__doc__"), description.get_item(shape::DOC)?)?;
    if let Some(slots) = extras.get(extra::SLOTS) {
        dict.set_item(intern!(py, "__slots__"), without_inherited(slots, bases)?)?;
    }
    for item in description.get_item(shape::ATTRIBUTES)?.cast::<PyTuple>()? {
        let item = item.cast_into::<PyTuple>()?;
        let name = item.get_item(0)?.cast_into::<PyString>()?;
        if let Some(value) = builder.attribute(&name, &item)? {
            dict.set_item(name, value)?;
        }
    }
    builder.extras(&extras, &dict)?;

    let hidden = meta::hidden(&visible)?;
    let class = meta::quietly(&hidden, &name, bases, &dict)?;
    builder.finish(&class, &extras, &visible, description)?;
    Ok(class)
}

/// The slots that a class adds, without the weak references and the dict that a base has here: the twin
/// of a type of C has them, where its original may not.
fn without_inherited<'py>(
    slots: &Bound<'py, PyAny>,
    bases: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = slots.py();
    let (mut weak, mut dict) = (false, false);
    for base in bases {
        let base = base.cast::<PyType>()?.as_type_ptr();
        // SAFETY: attached, with a live, ready type.
        unsafe {
            weak |= (*base).tp_weaklistoffset != 0
                || ffi::PyType_HasFeature(base, MANAGED_WEAKREF) != 0;
            dict |= (*base).tp_dictoffset != 0 || ffi::PyType_HasFeature(base, MANAGED_DICT) != 0;
        }
    }
    let mut kept = Vec::new();
    for slot in slots.try_iter()? {
        let slot = slot?;
        if !(weak && slot.eq("__weakref__")? || dict && slot.eq("__dict__")?) {
            kept.push(slot);
        }
    }
    PyTuple::new(py, kept)
}

/// `Py_TPFLAGS_MANAGED_WEAKREF` and `Py_TPFLAGS_MANAGED_DICT`, which no offset tells in some versions.
const MANAGED_WEAKREF: std::ffi::c_ulong = 1 << 3;
const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;

/// The metaclass that the class shows.
fn visible<'py>(description: &Bound<'py, PyTuple>, flags: u32) -> PyResult<Bound<'py, PyType>> {
    let py = description.py();
    let told = description.get_item(shape::METACLASS)?;
    if !told.is_none() {
        let told = told.cast_into::<PyType>()?;
        if statics::flags(&told) & ffi::Py_TPFLAGS_TYPE_SUBCLASS == 0 {
            return Err(PyTypeError::new_err(format!(
                "{} is not a metaclass",
                told.qualname()?.to_string_lossy()
            )));
        }
        return Ok(told);
    }
    if flags & flag::ENUM != 0 {
        meta::enum_meta(py)
    } else if flags & flag::ABC != 0 {
        meta::abc_meta(py)
    } else {
        Ok(PyType::type_object(py))
    }
}

struct Builder<'a, 'py> {
    py: Python<'py>,
    access: &'a Bound<'py, PyAny>,
    maker: Maker<'a, 'py>,
    flags: u32,
    name: &'a str,
    has_source: bool,
}

impl<'py> Builder<'_, 'py> {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The value for one attribute; `None` if the class must do without.
    fn attribute(
        &self,
        name: &Bound<'py, PyString>,
        item: &Bound<'py, PyTuple>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py;
        let text = name.to_string_lossy();
        if text == KEY || text == "__del__" || text == "__class__" {
            return Ok(None);
        }
        let kind: u8 = item.get_item(1)?.extract()?;
        let described = || -> PyResult<Bound<'py, PyTuple>> {
            let described = item.get_item(2)?.cast_into::<PyTuple>()?;
            if described.len() == function::place::LEN {
                Ok(described)
            } else {
                Err(PyValueError::new_err(
                    "a malformed description of a function",
                ))
            }
        };
        let builtin = |wrapper: &str, function: Bound<'py, PyAny>| {
            py.import("builtins")?.getattr(wrapper)?.call1((function,))
        };
        let access = || self.access.clone().unbind();
        Ok(Some(match kind {
            kind::METHOD => {
                let target =
                    if self.has(flag::EXCEPTION) && matches!(&*text, "__str__" | "__repr__") {
                        Bound::new(
                            py,
                            Target {
                                access: access(),
                                what: Decision::Text,
                            },
                        )?
                        .into_any()
                    } else {
                        self.access.clone()
                    };
                self.maker
                    .stub(&target, "call", name, Some(&described()?))?
            }
            kind::CLASSMETHOD => builtin(
                "classmethod",
                self.maker
                    .stub(self.access, "call_for", name, Some(&described()?))?,
            )?,
            kind::STATICMETHOD if text == "__new__" => {
                let target = Bound::new(
                    py,
                    Target {
                        access: access(),
                        what: Decision::New,
                    },
                )?
                .into_any();
                builtin(
                    "staticmethod",
                    self.maker.stub(&target, "new", name, Some(&described()?))?,
                )?
            }
            kind::STATICMETHOD => builtin(
                "staticmethod",
                self.maker
                    .stub(self.access, "call", name, Some(&described()?))?,
            )?,
            kind::PROPERTY => self.property(name, item)?,
            kind::DESCRIPTOR => {
                let (data, doc): (bool, Option<Py<PyAny>>) =
                    (item.get_item(2)?.extract()?, item.get_item(3)?.extract()?);
                let name = name.clone().unbind();
                if data {
                    Bound::new(py, RemoteDescriptor::new(access(), name, doc))?.into_any()
                } else {
                    Bound::new(py, RemoteAttribute::new(access(), name, true))?.into_any()
                }
            }
            kind::VALUE => Bound::new(
                py,
                RemoteAttribute::new(access(), name.clone().unbind(), false),
            )?
            .into_any(),
            kind::KEPT => {
                Bound::new(py, RemoteFact::new(access(), name.clone().unbind()))?.into_any()
            }
            kind::CONSTANT => item.get_item(2)?,
            kind::GENERIC => builtin("classmethod", py.import("types")?.getattr("GenericAlias")?)?,
            _ => return Err(PyValueError::new_err("an unknown kind of class attribute")),
        }))
    }

    fn property(
        &self,
        name: &Bound<'py, PyString>,
        item: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let (getter, setter, deleter): (Option<Bound<'py, PyTuple>>, bool, bool) = (
            item.get_item(2)?.extract()?,
            item.get_item(3)?.extract()?,
            item.get_item(4)?.extract()?,
        );
        let none = || py.None().into_bound(py);
        let stub = |operation: &str, exists: bool| {
            if exists {
                self.maker.stub(self.access, operation, name, None)
            } else {
                Ok(none())
            }
        };
        let getter = self
            .maker
            .stub(self.access, "property_get", name, getter.as_ref())?;
        let made = py.import("builtins")?.getattr("property")?.call1((
            getter,
            stub("property_set", setter)?,
            stub("property_delete", deleter)?,
            item.get_item(5)?,
        ))?;
        Ok(made)
    }

    /// What the shape tells beside attributes, as far as it goes into the class's dict.
    fn extras(
        &self,
        extras: &HashMap<String, Bound<'py, PyAny>>,
        dict: &Bound<'py, PyDict>,
    ) -> PyResult<()> {
        let py = self.py;
        if let Some(found) = extras.get(extra::ANNOTATIONS) {
            let annotations = PyDict::new(py);
            for item in found.cast::<PyTuple>()? {
                let (name, described): (Bound<'py, PyString>, Bound<'py, PyAny>) =
                    item.extract()?;
                if let Some(value) = annotation(&described, 0)? {
                    annotations.set_item(name, value)?;
                }
            }
            dict.set_item(intern!(py, "__annotations__"), annotations)?;
        }
        if let Some(names) = extras.get(extra::MATCH_ARGS) {
            dict.set_item(intern!(py, "__match_args__"), names)?;
        }
        let mut parameters = Parameters::new();
        for (key, name) in [
            (extra::PARAMETERS, "__parameters__"),
            (extra::TYPE_PARAMS, "__type_params__"),
        ] {
            if let Some(found) = extras.get(key) {
                dict.set_item(name, generic::type_parameters(found, &mut parameters)?)?;
            }
        }
        if let Some(found) = extras.get(extra::ORIGINAL_BASES) {
            let bases = generic::made_of(found, &mut parameters)?;
            dict.set_item(intern!(py, "__orig_bases__"), bases)?;
        }
        if self.has(flag::DATACLASS) {
            self.dataclass(extras, dict)?;
        }
        Ok(())
    }

    fn dataclass(
        &self,
        extras: &HashMap<String, Bound<'py, PyAny>>,
        dict: &Bound<'py, PyDict>,
    ) -> PyResult<()> {
        let py = self.py;
        let module = py.import("dataclasses")?;
        if let Some(found) = extras.get(extra::DATACLASS) {
            let told = PyDict::from_sequence(found)?;
            let known = module.getattr("_DataclassParams")?;
            // The parameters differ between versions of Python: those of this one, where told.
            let names = known.getattr("__slots__")?;
            let arguments = PyList::empty(py);
            for name in names.try_iter()? {
                arguments.append(told.get_item(name?)?.unwrap_or_else(|| {
                    false
                        .into_pyobject(py)
                        .map_or_else(|_| py.None().into_bound(py), |no| no.to_owned().into_any())
                }))?;
            }
            dict.set_item("__dataclass_params__", known.call1(arguments.to_tuple())?)?;
        }
        let Some(found) = extras.get(extra::FIELDS) else {
            return Ok(());
        };
        let fields = PyDict::new(py);
        for item in found.cast::<PyTuple>()? {
            let field = self.field(&module, &item.cast_into::<PyTuple>()?)?;
            fields.set_item(field.getattr("name")?, field)?;
        }
        dict.set_item("__dataclass_fields__", fields)
    }

    fn field(
        &self,
        module: &Bound<'py, PyModule>,
        item: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let missing = module.getattr("MISSING")?;
        let name = item.get_item(0)?.cast_into::<PyString>()?;
        let default = item.get_item(2)?.cast_into::<PyTuple>()?;
        let factory = item.get_item(3)?.cast_into::<PyTuple>()?;
        let factory = match factory.len() {
            0 => missing.clone(),
            1 => factory.get_item(0)?,
            _ => self
                .maker
                .stub(self.access, "default_factory", &name, None)?,
        };
        // A default that stayed over there is fetched when somebody needs it.
        let remote = default.len() > 1;
        let class = if remote {
            py.import("objspace._stubs")?.getattr("RemoteField")?
        } else {
            module.getattr("Field")?
        };
        let bits = item.get_item(4)?.cast_into::<PyTuple>()?;
        let [init, repr, hash, compare, kw_only] =
            [0, 1, 2, 3, 4].map(|index| bits.get_item(index));
        let metadata = PyDict::from_sequence(&item.get_item(5)?)?;
        let default = default_of(default.as_any())?.unwrap_or_else(|| missing.clone());
        let field = class.call1((
            default, factory, init?, repr?, hash?, compare?, metadata, kw_only?,
        ))?;
        if remote {
            field.setattr("_access", self.access)?;
        }
        field.setattr("name", name)?;
        field.setattr("type", annotation(&item.get_item(1)?, 0)?)?;
        let which: Option<String> = item.get_item(6)?.extract()?;
        field.setattr(
            "_field_type",
            module.getattr(which.as_deref().unwrap_or("_FIELD"))?,
        )?;
        Ok(field)
    }

    /// What is done to the class once it is there.
    fn finish(
        &self,
        class: &Bound<'py, PyType>,
        extras: &HashMap<String, Bound<'py, PyAny>>,
        visible: &Bound<'py, PyType>,
        description: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let py = self.py;
        debug_assert_eq!(class.name()?.to_string_lossy(), self.name);
        if let Some(shown) = extras.get(extra::SLOTS_SHOWN) {
            set_here(class, intern!(py, "__slots__").as_any(), Some(shown))?;
        }
        if self.has(flag::ABC) {
            meta::abc_registry(class)?;
        }
        if let Some(names) = extras.get(extra::ABSTRACT) {
            let names = PyFrozenSet::new(py, names.cast::<PyTuple>()?)?;
            set_here(
                class,
                intern!(py, "__abstractmethods__").as_any(),
                Some(names.as_any()),
            )?;
        }
        let record = Record {
            access: self.access.clone().unbind(),
            visible: visible.clone().unbind(),
            flags: self.flags,
            description: description.clone().unbind(),
            file: self.has_source.then(|| self.maker.file.clone().unbind()),
            hidden: std::sync::OnceLock::new(),
        };
        set_here(
            class,
            intern!(py, "__objspace_class__").as_any(),
            Some(Bound::new(py, record)?.as_any()),
        )?;
        if let Some(registered) = extras.get(extra::REGISTERED) {
            for name in registered.cast::<PyTuple>()? {
                let name: String = name.extract()?;
                // Only names of the list: the other side does not choose what is imported.
                let known = ABCS.iter().find(|(module, abc)| {
                    name.strip_prefix(module)
                        .and_then(|rest| rest.strip_prefix('.'))
                        == Some(*abc)
                });
                if let Some((module, abc)) = known {
                    py.import(*module)?
                        .getattr(*abc)?
                        .call_method1("register", (class,))?;
                }
            }
        }
        Ok(())
    }
}
