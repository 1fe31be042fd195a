//! Functions by name where the other side finds the same, by value otherwise; bound methods; what
//! `functools` makes of functions.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyFunction, PyTuple};

use crate::pickling::globals::{self, fill, unwrap};
use crate::pickling::reducer::{CodeMode, Pass, phased, reduced, refused};
use crate::pickling::{allow, errors, maker};

/// How an object is reached from what a qualified name finds: the name and the step after it.
const STEPS: [&str; 5] = ["", "__func__", "fget", "fset", "fdel"];

/// Whether the other side finds this object by its module and qualified name: the step after it.
pub(super) fn named(object: &Bound<'_, PyAny>, mode: CodeMode) -> PyResult<Option<&'static str>> {
    let text = |name: &str| {
        object
            .getattr(name)
            .and_then(|text| text.extract::<String>())
    };
    let (Ok(module), Ok(qualname)) = (text("__module__"), text("__qualname__")) else {
        return Ok(None);
    };
    named_as(object, &module, &qualname, mode)
}

/// The same of an object with that module and name.
pub(crate) fn named_as(
    object: &Bound<'_, PyAny>,
    module: &str,
    qualname: &str,
    mode: CodeMode,
) -> PyResult<Option<&'static str>> {
    let py = object.py();
    if qualname.contains('<') {
        return Ok(None);
    }
    let main = matches!(module, "__main__" | "__mp_main__");
    if main && matches!(mode, CodeMode::Auto | CodeMode::Value) {
        return Ok(None);
    }
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    let Ok(found) = modules.get_item(module) else {
        return Ok(None);
    };
    let has_spec = found
        .getattr(intern!(py, "__spec__"))
        .is_ok_and(|spec| !spec.is_none());
    let by_value = match mode {
        CodeMode::Auto => !has_spec,
        CodeMode::Value => !globals::is_installed(&found)?,
        CodeMode::Reference | CodeMode::Plain => false,
    };
    if by_value && !main {
        return Ok(None);
    }
    let Some(found) = walk(&found, qualname) else {
        return Ok(None);
    };
    for step in STEPS {
        if follow(&found, step).is_ok_and(|found| found.is(object)) {
            return Ok(Some(step));
        }
    }
    Ok(None)
}

/// What a module has under a qualified name; what stands in a class is not bound.
fn walk<'py>(module: &Bound<'py, PyAny>, qualname: &str) -> Option<Bound<'py, PyAny>> {
    let mut object = module.clone();
    for part in qualname.split('.') {
        object = object.getattr(part).ok()?;
    }
    Some(object)
}

fn follow<'py>(object: &Bound<'py, PyAny>, step: &str) -> PyResult<Bound<'py, PyAny>> {
    if step.is_empty() {
        Ok(object.clone())
    } else {
        object.getattr(step)
    }
}

pub(super) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = object.py();
    let function = object.cast::<PyFunction>()?;
    if let Some(step) = named(object, pass.mode)? {
        if step.is_empty() {
            return Ok(None);
        }
        let (module, qualname) = (
            object.getattr(intern!(py, "__module__"))?,
            object.getattr(intern!(py, "__qualname__"))?,
        );
        return reduced(py, "function_reference", (module, qualname, step)).map(Some);
    }
    by_value(function, pass).map(Some)
}

fn by_value<'py>(function: &Bound<'py, PyFunction>, pass: &Pass) -> PyResult<Bound<'py, PyTuple>> {
    let py = function.py();
    let part = |name: &str| function.getattr(name);
    let code = part("__code__")?.cast_into::<PyCode>()?;
    let dict = part("__globals__")?.cast_into::<PyDict>()?;
    let arguments = (
        &code,
        globals::wrap(&dict)?,
        part("__name__")?,
        part("__qualname__")?,
        part("__module__")?,
        part("__closure__")?,
    )
        .into_pyobject(py)?;
    let none = py.None().into_bound(py);
    let annotations = part("__annotations__")?;
    let parameters = if function.hasattr("__type_params__")? {
        part("__type_params__")?
    } else {
        PyTuple::empty(py).into_any()
    };
    let orphan = |value: Bound<'py, PyAny>| -> PyResult<Bound<'py, PyAny>> {
        Ok(if value.is_truthy()? {
            value
        } else {
            none.clone()
        })
    };
    let used = globals::used(&dict, &code, pass.mode)?;
    let state = (
        part("__defaults__")?,
        part("__kwdefaults__")?,
        orphan(part("__dict__")?)?,
        orphan(annotations)?,
        part("__doc__")?,
        orphan(parameters)?,
        used.map_or_else(|| none.clone(), Bound::into_any),
    )
        .into_pyobject(py)?;
    let make = maker::get(py, "make_function")?;
    phased(
        py,
        make,
        arguments.into_any(),
        state.into_any(),
        "set_function",
    )
}

/// A method is its function and its object: the name may lead elsewhere (`super().method`).
pub(super) fn bound_method<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let arguments = (
        object.getattr(intern!(py, "__func__"))?,
        object.getattr(intern!(py, "__self__"))?,
    );
    reduced(py, "make_method", arguments)
}

/// Methods of C types, bound to an object. Functions of modules go by pickle's own way.
pub(super) fn builtin_method<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = object.py();
    let owner = object.getattr(intern!(py, "__self__"))?;
    if owner.is_none() || owner.is_instance_of::<PyModule>() {
        return Ok(None);
    }
    let name = object.getattr(intern!(py, "__name__"))?;
    let found = owner.getattr(name.cast::<pyo3::types::PyString>()?);
    if found.is_ok_and(|found| found.eq(object).unwrap_or(false)) {
        return reduced(py, "attribute", (owner, name)).map(Some);
    }
    // Overridden by the object's class: the method of a base is meant.
    for class in owner.get_type().mro() {
        if let Ok(namespace) = class.getattr(intern!(py, "__dict__"))
            && let Ok(method) = namespace.get_item(&name)
            && let Ok(bound) = method.call_method1(intern!(py, "__get__"), (&owner,))
            && bound.eq(object)?
        {
            return reduced(py, "base_attribute", (class, owner, name)).map(Some);
        }
    }
    Err(refused(format!(
        "cannot pickle {}: its object has no such method",
        object.repr()?
    )))
}

/// A function with a cache: by name, or the function and the parameters; the cache is not copied.
pub(super) fn lru_cache<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = object.py();
    if named(object, pass.mode)? == Some("") {
        return Ok(None);
    }
    let parameters = object.call_method0("cache_parameters")?;
    let arguments = (
        object.getattr("__wrapped__")?,
        parameters.get_item("maxsize")?,
        parameters.get_item("typed")?,
    );
    reduced(py, "make_lru_cache", arguments).map(Some)
}

/// The function that is reached by a qualified name and one more step.
#[pyfunction]
fn function_reference<'py>(
    py: Python<'py>,
    module: &str,
    qualname: &str,
    step: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let missing = || errors::unpickling(format!("there is no function {module}.{qualname} here"));
    if !STEPS.contains(&step) {
        return Err(errors::unpickling(format!(
            "no way to a function: {step:?}"
        )));
    }
    let found = walk(&allow::import(py, module)?, qualname).ok_or_else(missing)?;
    let found = follow(&found, step).map_err(|_| missing())?;
    if found.is_instance_of::<PyFunction>() {
        Ok(found)
    } else {
        Err(missing())
    }
}

/// A function without defaults and attributes.
#[pyfunction]
fn make_function<'py>(
    code: &Bound<'py, PyCode>,
    globals: &Bound<'py, PyAny>,
    name: &Bound<'py, PyAny>,
    qualname: &Bound<'py, PyAny>,
    module: &Bound<'py, PyAny>,
    closure: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = code.py();
    let class = py
        .import(intern!(py, "types"))?
        .getattr(intern!(py, "FunctionType"))?;
    let function = class.call1((code, unwrap(globals)?, name, py.None(), closure))?;
    function.setattr(intern!(py, "__qualname__"), qualname)?;
    function.setattr(intern!(py, "__module__"), module)?;
    Ok(function)
}

type FunctionState<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyDict>>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyTuple>>,
);

#[pyfunction]
fn set_function<'py>(function: &Bound<'py, PyFunction>, state: FunctionState<'py>) -> PyResult<()> {
    let py = function.py();
    let (defaults, keywords, attributes, annotations, doc, parameters, used) = state;
    if let Some(used) = used {
        let globals = function.getattr(intern!(py, "__globals__"))?;
        fill(globals.cast()?, &used)?;
    }
    function.setattr(intern!(py, "__defaults__"), defaults)?;
    function.setattr(intern!(py, "__kwdefaults__"), keywords)?;
    function.setattr(intern!(py, "__doc__"), doc)?;
    if !annotations.is_none() {
        function.setattr(intern!(py, "__annotations__"), annotations)?;
    }
    if !parameters.is_none() {
        function.setattr(intern!(py, "__type_params__"), parameters)?;
    }
    if let Some(attributes) = attributes {
        function
            .getattr(intern!(py, "__dict__"))?
            .cast::<PyDict>()?
            .update(attributes.as_mapping())?;
    }
    Ok(())
}

#[pyfunction]
fn make_method<'py>(
    function: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    py.import(intern!(py, "types"))?
        .getattr(intern!(py, "MethodType"))?
        .call1((function, object))
}

/// `getattr(object, name)`
#[pyfunction]
fn attribute<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    allow::attribute(object, name)?;
    object.getattr(name)
}

/// What a base class has under a name, bound to an object.
#[pyfunction]
fn base_attribute<'py>(
    class: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    allow::attribute(object, name)?;
    class
        .getattr("__dict__")?
        .get_item(name)?
        .call_method1("__get__", (object,))
}

#[pyfunction]
fn make_lru_cache<'py>(
    function: &Bound<'py, PyAny>,
    maxsize: &Bound<'py, PyAny>,
    typed: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    function
        .py()
        .import("functools")?
        .getattr("lru_cache")?
        .call1((maxsize, typed))?
        .call1((function,))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(function_reference, module)?)?;
    maker::add(module, wrap_pyfunction!(make_function, module)?)?;
    maker::add(module, wrap_pyfunction!(set_function, module)?)?;
    maker::add(module, wrap_pyfunction!(make_method, module)?)?;
    maker::add(module, wrap_pyfunction!(attribute, module)?)?;
    maker::add(module, wrap_pyfunction!(base_attribute, module)?)?;
    maker::add(module, wrap_pyfunction!(make_lru_cache, module)?)
}
