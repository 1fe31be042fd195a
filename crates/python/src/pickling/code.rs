//! Code objects: by reference where the other side can import them, by value otherwise.
//!
//! By reference: module, qualified name, and a hash of all that decides what the code does. File
//! names and line tables are not part of it, so an edited comment or another path changes nothing. The
//! module's loader is asked for its code (`get_code`), and everything nested in that is found by hash:
//! lambdas, nested functions and the bodies of decorated functions have no name to be found under.
//!
//! By value: the arguments of `types.CodeType`, in which nothing specialised is visible, and the same
//! hash, which is checked before the code can be used.
//!
//! A code object is taken to belong to the imported module of its file. Code of a module that cannot be
//! imported elsewhere (`__main__`, the prompt, `exec`) travels by value.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use objspace_interp::extra::Slot;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyCode, PyComplex, PyEllipsis, PyFloat, PyFrozenSet, PyFunction, PyInt,
    PyList, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference,
};
use sha2::{Digest, Sha256};

use super::reducer::{CodeMode, reduced, refused};
use super::{allow, errors, maker, stream};

/// What identifies code.
pub(crate) type Hash = [u8; 16];

/// Reads what decides about a code object, in the order of the arguments of `types.CodeType`.
const FIELDS: [&str; 18] = [
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_nlocals",
    "co_stacksize",
    "co_flags",
    "co_code",
    "co_consts",
    "co_names",
    "co_varnames",
    "co_filename",
    "co_name",
    "co_qualname",
    "co_firstlineno",
    "co_linetable",
    "co_exceptiontable",
    "co_freevars",
    "co_cellvars",
];
/// Which of them only say where the code was written.
const PLACES: [&str; 3] = ["co_filename", "co_firstlineno", "co_linetable"];

/// What is known of a code object, for as long as it lives.
struct Known {
    hash: Hash,
    /// Where it was last found.
    place: Mutex<Option<Arc<Place>>>,
}

static KNOWN: Slot<Known> = Slot::new();

/// What is known of `code`; `None` where nothing can be kept in it.
fn known<'a>(code: &'a Bound<'_, PyCode>) -> PyResult<Option<&'a Known>> {
    // SAFETY: attached; a code object, which `code` keeps alive.
    if let Some(known) = unsafe { KNOWN.of(code.as_ptr(), || None) } {
        return Ok(Some(known));
    }
    let hash = compute(code)?;
    let place = Mutex::default();
    // SAFETY: as above.
    Ok(unsafe { KNOWN.of(code.as_ptr(), || Some(Known { hash, place })) })
}

/// The hash of a code object and of all code nested in it. It is kept for as long as the object lives.
pub(crate) fn hash(code: &Bound<'_, PyCode>) -> PyResult<Hash> {
    known(code)?.map_or_else(|| compute(code), |known| Ok(known.hash))
}

/// A module that was imported, without keeping it alive. One that is loaded again gets a new spec.
struct Import {
    module: Py<PyWeakrefReference>,
    spec: Py<PyWeakrefReference>,
}

impl Import {
    /// `None`: it cannot be told from another one later.
    fn of(module: &Bound<'_, PyAny>) -> Option<Self> {
        let spec = maker::spec(module)?;
        Some(Self {
            module: PyWeakrefReference::new(module).ok()?.unbind(),
            spec: PyWeakrefReference::new(&spec).ok()?.unbind(),
        })
    }

    fn is(&self, module: &Bound<'_, PyAny>) -> bool {
        let py = module.py();
        let same = |known: &Py<PyWeakrefReference>, object: &Bound<'_, PyAny>| {
            let known = known.bind(py).upgrade();
            known.is_some_and(|known| known.is(object))
        };
        same(&self.module, module)
            && maker::spec(module).is_some_and(|spec| same(&self.spec, &spec))
    }
}

/// Where the other side finds a code object.
pub(crate) struct Place {
    import: Option<Import>,
    pub(crate) module: Py<PyString>,
    pub(crate) qualname: Py<PyString>,
    pub(crate) hash: Hash,
}

/// A place, and the module that it is in.
type Found<'py> = (Arc<Place>, Bound<'py, PyAny>);

/// Where the other side finds `code`: in the module of its file, if the loader of that finds the same.
/// Else the name of the module, if there is one.
pub(crate) fn place<'py>(
    code: &Bound<'py, PyCode>,
) -> PyResult<Result<Found<'py>, Option<String>>> {
    let py = code.py();
    let known = known(code)?;
    let last = known.and_then(|known| {
        let place = known.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    });
    if let Some(place) = last
        && let Some(import) = &place.import
        && let Some(module) = maker::imported(place.module.bind(py))?
        && import.is(&module)
    {
        return Ok(Ok((place, module)));
    }
    let Some(name) = module_of(code)? else {
        return Ok(Err(None));
    };
    let module = maker::modules(py)?.get_item(&name)?;
    let hash = hash(code)?;
    if find(&module, &name, &hash)?.is_none() {
        return Ok(Err(Some(name)));
    }
    let qualname = code.getattr(intern!(py, "co_qualname"))?;
    let place = Arc::new(Place {
        import: Import::of(&module),
        module: PyString::new(py, &name).unbind(),
        qualname: qualname.cast_into::<PyString>()?.unbind(),
        hash,
    });
    let old = known.and_then(|known| {
        let mut last = known.place.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(Arc::clone(&place))
    });
    drop(old);
    Ok(Ok((place, module)))
}

fn compute(code: &Bound<'_, PyCode>) -> PyResult<Hash> {
    let mut digest = Sha256::new();
    for name in FIELDS {
        if !PLACES.contains(&name) {
            feed(&mut digest, &code.getattr(name)?)?;
        }
    }
    Ok(shorten(digest))
}

fn shorten(digest: Sha256) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest.finalize()[..16]);
    hash
}

/// One constant, with its type: `1`, `1.0` and `True` are different constants.
fn feed(digest: &mut Sha256, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut put = |tag: u8, bytes: &[u8]| {
        digest.update([tag]);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    if value.is_none() {
        put(b'N', b"");
    } else if value.is_exact_instance_of::<PyBool>() {
        put(b'B', &[u8::from(value.is_truthy()?)]);
    } else if value.is_exact_instance_of::<PyInt>() {
        put(b'i', value.str()?.to_cow()?.as_bytes());
    } else if let Ok(float) = value.cast_exact::<PyFloat>() {
        put(b'f', &float.value().to_bits().to_le_bytes());
    } else if let Ok(complex) = value.cast_exact::<PyComplex>() {
        use pyo3::types::PyComplexMethods;
        put(b'c', &complex.real().to_bits().to_le_bytes());
        put(b'c', &complex.imag().to_bits().to_le_bytes());
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        put(b'b', bytes.as_bytes());
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        match text.to_cow() {
            Ok(utf8) => put(b's', utf8.as_bytes()),
            // Surrogates have no UTF-8.
            Err(_) => {
                let py = value.py();
                let bytes = text.call_method1(
                    intern!(py, "encode"),
                    (intern!(py, "utf-8"), intern!(py, "surrogatepass")),
                )?;
                put(b'S', bytes.cast::<PyBytes>()?.as_bytes());
            }
        }
    } else if value.is_instance_of::<PyEllipsis>() {
        put(b'.', b"");
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        put(b'(', &(tuple.len() as u64).to_le_bytes());
        for item in tuple {
            feed(digest, &item)?;
        }
    } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
        // The order of a set depends on the process.
        let mut items = Vec::with_capacity(set.len());
        for item in set {
            let mut inner = Sha256::new();
            feed(&mut inner, &item)?;
            items.push(shorten(inner));
        }
        items.sort_unstable();
        put(b'{', &items.concat());
    } else if let Ok(code) = value.cast_exact::<PyCode>() {
        put(b'C', &hash(code)?);
    } else {
        return Err(PyTypeError::new_err(format!(
            "a constant of type '{}' in code",
            value.get_type().name()?
        )));
    }
    Ok(())
}

/// The code of a module that its loader finds, by hash.
type Index = HashMap<Hash, Py<PyCode>>;

/// Asks the loader of a module for its code. `None`: it has no loader, or one without code.
fn load_index(module: &Bound<'_, PyAny>) -> PyResult<Option<Index>> {
    let py = module.py();
    let Ok(spec) = module.getattr(intern!(py, "__spec__")) else {
        return Ok(None);
    };
    if spec.is_none() {
        return Ok(None);
    }
    let Ok(get_code) = spec
        .getattr(intern!(py, "loader"))
        .and_then(|loader| loader.getattr(intern!(py, "get_code")))
    else {
        return Ok(None);
    };
    // A file that is gone or no longer compiles: then this is not found elsewhere either.
    let Ok(code) = get_code.call1((spec.getattr(intern!(py, "name"))?,)) else {
        return Ok(None);
    };
    let Ok(code) = code.cast_into::<PyCode>() else {
        return Ok(None);
    };
    let mut index = Index::new();
    let mut waiting = vec![code];
    while let Some(code) = waiting.pop() {
        for constant in code.getattr(intern!(py, "co_consts"))?.try_iter()? {
            if let Ok(nested) = constant?.cast_into_exact::<PyCode>() {
                waiting.push(nested);
            }
        }
        index.insert(hash(&code)?, code.unbind());
    }
    Ok(Some(index))
}

/// Looks up `hash` among the code of an imported module.
fn find<'py>(
    module: &Bound<'py, PyAny>,
    name: &str,
    hash: &Hash,
) -> PyResult<Option<Bound<'py, PyCode>>> {
    type Indexes = HashMap<String, Arc<(Import, Index)>>;
    static INDEXES: LazyLock<Mutex<Indexes>> = LazyLock::new(Mutex::default);
    let py = module.py();
    let known = {
        let indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.get(name).map(Arc::clone)
    };
    if let Some(known) = known
        && known.0.is(module)
    {
        return Ok(known.1.get(hash).map(|code| code.bind(py).clone()));
    }
    let index = load_index(module)?.unwrap_or_default();
    let found = index.get(hash).map(|code| code.bind(py).clone());
    if let Some(import) = Import::of(module) {
        let made = Arc::new((import, index));
        let old = INDEXES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), made);
        drop(old);
    }
    Ok(found)
}

/// The name of the imported module that stands in the file of `code`.
fn module_of(code: &Bound<'_, PyCode>) -> PyResult<Option<String>> {
    static FILES: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let py = code.py();
    let file: String = code.getattr(intern!(py, "co_filename"))?.extract()?;
    if file.starts_with('<') && !file.starts_with("<frozen ") {
        return Ok(None);
    }
    let modules = maker::modules(py)?;
    let known = FILES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&file)
        .cloned();
    if let Some(name) = known
        && modules.contains(&name)?
    {
        return Ok(Some(name));
    }
    let mut found = None;
    for item in PyList::new(
        py,
        modules
            .call_method0("items")?
            .try_iter()?
            .collect::<PyResult<Vec<_>>>()?,
    )? {
        let (name, module): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let Ok(name) = name.extract::<String>() else {
            continue;
        };
        // `__main__` is another module elsewhere, and may share its file with one of another name.
        if name == "__main__" || name == "__mp_main__" {
            continue;
        }
        let Ok(spec) = module.getattr(intern!(py, "__spec__")) else {
            continue;
        };
        let here = |text: &str| -> bool {
            spec.getattr(text)
                .and_then(|path| path.extract::<String>())
                .is_ok_and(|path| path == file)
        };
        if spec.is_none() || !here("origin") {
            continue;
        }
        found = Some(name);
        break;
    }
    if let Some(name) = &found {
        FILES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(file, name.clone());
    }
    Ok(found)
}

/// `(make, arguments)` of a code object.
pub(crate) fn reduce<'py>(
    code: &Bound<'py, PyCode>,
    mode: CodeMode,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = code.py();
    let hash = hash(code)?;
    if mode != CodeMode::Value {
        let module = match place(code)? {
            Ok((place, _)) => {
                let arguments = (&place.module, &place.qualname, PyBytes::new(py, &hash));
                return reduced(py, "code_reference", arguments);
            }
            Err(module) => module,
        };
        if mode == CodeMode::Reference {
            let place = module.map_or_else(
                || "it is of no module that can be imported".to_owned(),
                |name| format!("the loader of module {name} finds other code"),
            );
            return Err(refused(format!(
                "code of {} cannot be pickled by reference: {place}",
                code.getattr(intern!(py, "co_qualname"))?
            )));
        }
    }
    let fields = FIELDS
        .iter()
        .map(|name| code.getattr(*name))
        .collect::<PyResult<Vec<_>>>()?;
    reduced(
        py,
        "code_value",
        (PyBytes::new(py, &hash), PyTuple::new(py, fields)?),
    )
}

/// The code object of an imported module that has this hash.
#[pyfunction]
#[pyo3(signature = (module, qualname, hash, /))]
pub(crate) fn code_reference<'py>(
    module: &Bound<'py, PyString>,
    qualname: &Bound<'py, PyString>,
    hash: &[u8],
) -> PyResult<Bound<'py, PyCode>> {
    let hash: Hash = hash
        .try_into()
        .map_err(|_| errors::unpickling("the hash of code has 16 bytes"))?;
    let imported = allow::import_named(module)?;
    // The function that is in use is preferred to what the loader would make anew.
    if let Some(code) = live(&imported, qualname)
        && self::hash(&code)? == hash
    {
        return Ok(code);
    }
    let (module, qualname) = (&*module.to_cow()?, &*qualname.to_cow()?);
    if let Some(code) = find(&imported, module, &hash)? {
        return Ok(code);
    }
    let here = match named(&imported, module, qualname)? {
        Some(code) => format!(
            "the code of {module}.{qualname} is different here: it was pickled with hash {}, here it has {}",
            stream::hex(&hash),
            stream::hex(&self::hash(&code)?)
        ),
        None => format!(
            "the code of {module}.{qualname} (hash {}) is not in the module {module} that is here",
            stream::hex(&hash)
        ),
    };
    Err(errors::unpickling(here))
}

/// The code of the function that an imported module has under a qualified name now.
fn live<'py>(
    module: &Bound<'py, PyAny>,
    qualname: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyCode>> {
    let py = module.py();
    let text = qualname.to_cow().ok()?;
    if text.contains('<') {
        return None;
    }
    let mut object = module.clone();
    if text.contains('.') {
        for part in text.split('.') {
            object = object.getattr(part).ok()?;
        }
    } else {
        let own = object.cast_exact::<PyModule>().ok();
        let found = own.and_then(|module| module.dict().get_item(qualname).ok().flatten());
        object = match found {
            Some(found) => found,
            None => object.getattr_opt(qualname).ok()??,
        };
    }
    if !object.is_exact_instance_of::<PyFunction>()
        && let Ok(function) = object.getattr(intern!(py, "__func__"))
    {
        object = function;
    }
    object
        .getattr(intern!(py, "__code__"))
        .ok()?
        .cast_into_exact()
        .ok()
}

/// Any code of that qualified name in what the loader finds.
fn named<'py>(
    module: &Bound<'py, PyAny>,
    _name: &str,
    qualname: &str,
) -> PyResult<Option<Bound<'py, PyCode>>> {
    let py = module.py();
    for code in load_index(module)?.unwrap_or_default().into_values() {
        let code = code.into_bound(py);
        if code
            .getattr(intern!(py, "co_qualname"))?
            .extract::<String>()?
            == qualname
        {
            return Ok(Some(code));
        }
    }
    Ok(None)
}

/// How deep tuples may stand in tuples among the constants of code, and code in code.
const DEEPEST: usize = 100;
const MOST_CONSTANTS: usize = 1_000_000;

fn bounded(value: &Bound<'_, PyTuple>, depth: usize, left: &mut usize) -> PyResult<()> {
    *left = left.saturating_sub(value.len());
    if depth == 0 || *left == 0 {
        return Err(errors::unpickling(
            "code by value has too many constants, or too many within each other",
        ));
    }
    for item in value {
        if let Ok(tuple) = item.cast_exact::<PyTuple>() {
            bounded(tuple, depth - 1, left)?;
        } else if let Ok(code) = item.cast_exact::<PyCode>() {
            let constants = code.getattr("co_consts")?;
            bounded(constants.cast()?, depth - 1, left)?;
        }
    }
    Ok(())
}

/// A code object out of its parts.
#[pyfunction]
pub(crate) fn code_value<'py>(
    py: Python<'py>,
    hash: &[u8],
    fields: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyCode>> {
    allow::code_by_value()?;
    if fields.len() != FIELDS.len() {
        return Err(errors::unpickling("code by value has 18 fields"));
    }
    // CPython itself walks through constants without a limit.
    let mut left = MOST_CONSTANTS;
    bounded(fields, 2 * DEEPEST, &mut left)?;
    let code = py
        .import(intern!(py, "types"))?
        .getattr(intern!(py, "CodeType"))?
        .call1(fields)
        .map_err(|error| errors::unpickling(format!("code by value: {}", error.value(py))))?
        .cast_into::<PyCode>()?;
    let computed = compute(&code)
        .map_err(|error| errors::unpickling(format!("code by value: {}", error.value(py))))?;
    if computed != hash {
        return Err(errors::unpickling(format!(
            "the code of {} does not have the hash that stands with it",
            code.getattr(intern!(py, "co_qualname"))?
        )));
    }
    Ok(code)
}

/// The hash by which code is referred to, for tests and `objspace pickle inspect`.
#[pyfunction]
pub(crate) fn code_hash<'py>(code: &Bound<'py, PyCode>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(code.py(), &hash(code)?))
}

/// Registers the makers of code.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(code_reference, module)?)?;
    maker::add(module, wrap_pyfunction!(code_value, module)?)?;
    maker::add(module, wrap_pyfunction!(code_hash, module)?)
}
