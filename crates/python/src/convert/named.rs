//! Types and functions that travel by name, because both sides have them: those of `builtins`, and
//! the classes of a fixed list of standard-library modules. A name from the peer is looked up in
//! these and nowhere else; it never makes this process import anything outside the list.

use pyo3::exceptions::{PyBaseException, PyImportError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyType};

/// Modules whose classes are the same on both sides.
const MODULES: &[&str] = &[
    "_collections_abc",
    "_contextvars",
    "_decimal",
    "_functools",
    "_io",
    "_queue",
    "_thread",
    "abc",
    "array",
    "asyncio.exceptions",
    "builtins",
    "collections",
    "collections.abc",
    "concurrent.futures._base",
    "contextlib",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "io",
    "ipaddress",
    "itertools",
    "json.decoder",
    "numbers",
    "objspace",
    "operator",
    "pathlib",
    "pathlib._local",
    "queue",
    "random",
    "re",
    "string",
    "threading",
    "types",
    "typing",
    "uuid",
    "weakref",
    "zoneinfo",
];

/// Modules of which the exception classes, and nothing else, are the same on both sides: who catches
/// `sqlite3.IntegrityError` means that of the other process too.
const EXCEPTION_MODULES: &[&str] = &[
    "_csv",
    "_pickle",
    "argparse",
    "binascii",
    "concurrent.futures.process",
    "concurrent.futures.thread",
    "configparser",
    "copy",
    "dataclasses",
    "email.errors",
    "ftplib",
    "getopt",
    "graphlib",
    "http.client",
    "imaplib",
    "locale",
    "lzma",
    "_lzma",
    "multiprocessing.context",
    "pickle",
    "plistlib",
    "poplib",
    "shutil",
    "smtplib",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "struct",
    "subprocess",
    "tarfile",
    "tokenize",
    "unittest.case",
    "urllib.error",
    "xml.etree.ElementTree",
    "zipfile",
    "zipfile._path",
    "zlib",
];

/// Private names that public classes cannot do without: the metaclass of protocols.
const PRIVATE: &[(&str, &str)] = &[("typing", "_ProtocolMeta"), ("builtins", "__import__")];

/// Types that live in no module under their own name, and where they are found instead.
const ALIASES: &[(&str, &str)] = &[
    ("function", "FunctionType"),
    ("method", "MethodType"),
    ("builtin_function_or_method", "BuiltinFunctionType"),
    ("module", "ModuleType"),
    ("generator", "GeneratorType"),
    ("coroutine", "CoroutineType"),
    ("async_generator", "AsyncGeneratorType"),
    ("code", "CodeType"),
    ("frame", "FrameType"),
    ("traceback", "TracebackType"),
    ("NoneType", "NoneType"),
    ("ellipsis", "EllipsisType"),
    ("NotImplementedType", "NotImplementedType"),
    ("mappingproxy", "MappingProxyType"),
    ("cell", "CellType"),
    ("method-wrapper", "MethodWrapperType"),
    ("wrapper_descriptor", "WrapperDescriptorType"),
    ("method_descriptor", "MethodDescriptorType"),
    ("classmethod_descriptor", "ClassMethodDescriptorType"),
    ("getset_descriptor", "GetSetDescriptorType"),
    ("member_descriptor", "MemberDescriptorType"),
];

/// Iterator and view types that no module names: found as the type of a specimen.
const SPECIMENS: &[(&str, &str)] = &[
    ("list_iterator", "iter([])"),
    ("list_reverseiterator", "reversed([])"),
    ("tuple_iterator", "iter(())"),
    ("dict_keys", "{}.keys()"),
    ("dict_values", "{}.values()"),
    ("dict_items", "{}.items()"),
    ("dict_keyiterator", "iter({})"),
    ("dict_valueiterator", "iter({}.values())"),
    ("dict_itemiterator", "iter({}.items())"),
    ("dict_reversekeyiterator", "reversed({})"),
    (
        "odict_keys",
        "__import__('collections').OrderedDict().keys()",
    ),
    (
        "odict_values",
        "__import__('collections').OrderedDict().values()",
    ),
    (
        "odict_items",
        "__import__('collections').OrderedDict().items()",
    ),
    (
        "odict_iterator",
        "iter(__import__('collections').OrderedDict())",
    ),
    ("set_iterator", "iter(set())"),
    ("range_iterator", "iter(range(0))"),
    ("str_iterator", "iter('')"),
    ("str_ascii_iterator", "iter('')"),
    ("bytes_iterator", "iter(b'')"),
    ("bytearray_iterator", "iter(bytearray())"),
    ("builtin_method", "__import__('re').compile('').match"),
    ("callable_iterator", "iter(int, 0)"),
];

/// The (module, qualname) under which `object` can travel, if it is found there on this side too.
pub(crate) fn name_of(object: &Bound<'_, PyAny>) -> PyResult<Option<(String, String)>> {
    let py = object.py();
    let is_type = object.is_instance_of::<PyType>();
    if !is_type && !object.is_instance_of::<PyCFunction>() {
        return Ok(None);
    }
    // A class may answer anything for these names: only text is believed, and only if it leads back.
    let text = |name: &str| {
        object
            .getattr(name)
            .and_then(|value| value.extract::<String>())
            .ok()
    };
    let (Some(module), Some(qualname)) = (text("__module__"), text("__qualname__")) else {
        return Ok(None);
    };
    match lookup(py, &module, &qualname) {
        Ok(Some(found)) if found.is(object) => Ok(Some((module, qualname))),
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object that (module, qualname) names on this side.
pub(crate) fn resolve<'py>(
    py: Python<'py>,
    module: &str,
    qualname: &str,
) -> PyResult<Bound<'py, PyAny>> {
    lookup(py, module, qualname)?.ok_or_else(|| {
        PyTypeError::new_err(format!(
            "the other side names {module}.{qualname}, which is not among the types and functions \
             that travel by name, or does not exist in this Python"
        ))
    })
}

fn lookup<'py>(
    py: Python<'py>,
    module: &str,
    qualname: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let exceptions = EXCEPTION_MODULES.contains(&module);
    if !exceptions && !MODULES.contains(&module) {
        return Ok(None);
    }
    if module == "builtins" {
        if let Some((_, alias)) = ALIASES.iter().find(|(name, _)| *name == qualname) {
            return py.import("types")?.getattr_opt(*alias);
        }
        if let Some((_, source)) = SPECIMENS.iter().find(|(name, _)| *name == qualname) {
            let source = std::ffi::CString::new(*source)?;
            return Ok(Some(py.eval(&source, None, None)?.get_type().into_any()));
        }
    }
    // Only an exact name: no path through attributes, and nothing private.
    let private = qualname.starts_with('_') && !PRIVATE.contains(&(module, qualname));
    if qualname.contains('.') || private {
        return Ok(None);
    }
    let module_object = match py.import(module) {
        Ok(found) => found,
        // Not in this version of Python. Any other error is none of the name.
        Err(error) if error.is_instance_of::<PyImportError>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(found) = module_object.getattr_opt(qualname)? else {
        return Ok(None);
    };
    if exceptions {
        let is_exception = found
            .cast::<PyType>()
            .is_ok_and(|class| class.is_subclass_of::<PyBaseException>().unwrap_or(false));
        return Ok(is_exception.then_some(found));
    }
    let wanted = found.is_instance_of::<PyType>()
        || module == "builtins" && found.is_instance_of::<PyCFunction>();
    Ok(wanted.then_some(found))
}
