//! The global variables of code.
//!
//! A pickler takes an exact dict apart by itself, so a dict of globals stands in reductions as a
//! [`Globals`]. The globals of a module that can be imported travel as its name. Others (`__main__`, the
//! prompt, `exec`) travel by value, reduced to the names that the pickled code uses ([`used`]); there
//! they are a new dict, the same for all code of one pickle that shared them. Two processes of the
//! same program have the same `__main__`: there, and in the process that wrote the pickle, the name
//! is enough.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBytes, PyCode, PyDict, PyList, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference,
};
use sha2::{Digest, Sha256};

use super::reducer::{CodeMode, phased, reduced};
use super::{allow, errors, maker};

/// Stands for a dict of globals in a reduction. Loading it gives the dict.
#[pyclass(frozen, weakref, module = "objspace._pickles")]
pub(crate) struct Globals {
    pub(super) dict: Py<PyDict>,
}

#[pymethods]
impl Globals {
    // In a copy within the process the globals are the same.
    fn __copy__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __deepcopy__(this: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        this
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.dict)
    }
}

/// The stand-in of `dict`: the same one for as long as it is alive, for the sake of a pickler's memo.
pub(crate) fn wrap<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, Globals>> {
    static ALIVE: LazyLock<Mutex<HashMap<usize, Py<PyWeakrefReference>>>> =
        LazyLock::new(Mutex::default);
    let py = dict.py();
    let key = dict.as_ptr() as usize;
    // References are cloned inside of the lock and looked at outside: no Python code runs there.
    let known = ALIVE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
        .map(|reference| reference.clone_ref(py));
    if let Some(known) = known
        && let Some(found) = known.bind(py).upgrade()
        && let Ok(found) = found.cast_into::<Globals>()
        && found.get().dict.is(dict)
    {
        return Ok(found);
    }
    let made = Bound::new(
        py,
        Globals {
            dict: dict.clone().unbind(),
        },
    )?;
    let reference = PyWeakrefReference::new(&made)?.unbind();
    let dead = {
        let mut alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dead: Vec<_> = alive.insert(key, reference).into_iter().collect();
        // Those of dicts that are gone stay until many have gathered.
        if alive.len() > MOST_ALIVE.load(Ordering::Relaxed) {
            let (kept, gone): (HashMap<_, _>, HashMap<_, _>) = std::mem::take(&mut *alive)
                .into_iter()
                .partition(|(_, reference)| reference.bind(py).upgrade().is_some());
            MOST_ALIVE.store(MOST_DEAD.max(2 * kept.len()), Ordering::Relaxed);
            *alive = kept;
            dead.extend(gone.into_values());
        }
        dead
    };
    drop(dead);
    Ok(made)
}

/// How many stand-ins of dicts that are gone are remembered at least before they are looked through.
const MOST_DEAD: usize = 1000;
/// How many stand-ins there may be before the next look.
static MOST_ALIVE: AtomicUsize = AtomicUsize::new(MOST_DEAD);

/// The dict behind what stands for globals in the arguments of a maker.
pub(crate) fn unwrap<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = value.py();
    if let Ok(globals) = value.cast::<Globals>() {
        return Ok(globals.get().dict.bind(py).clone());
    }
    value
        .cast_exact::<PyDict>()
        .cloned()
        .map_err(|_| errors::unpickling("the globals of code must be a dict"))
}

/// The name of the module that has these globals, if it can be imported by that name elsewhere.
pub(crate) fn importable<'py>(
    dict: &Bound<'py, PyDict>,
    mode: CodeMode,
) -> PyResult<Option<Bound<'py, PyString>>> {
    let py = dict.py();
    let Some(name) = dict.get_item(intern!(py, "__name__"))? else {
        return Ok(None);
    };
    let Ok(name) = name.cast_into::<PyString>() else {
        return Ok(None);
    };
    let Some(module) = maker::imported(&name)? else {
        return Ok(None);
    };
    let Ok(theirs) = module.getattr(intern!(py, "__dict__")) else {
        return Ok(None);
    };
    if !theirs.is(dict) {
        return Ok(None);
    }
    if mode == CodeMode::Reference {
        return Ok(Some(name));
    }
    if name == "__main__" || name == "__mp_main__" {
        return Ok(None);
    }
    // Modules that the program made by itself have no spec.
    let has_spec = maker::spec(&module).is_some_and(|spec| !spec.is_none());
    let there = has_spec && (mode != CodeMode::Value || is_installed(&module)?);
    Ok(there.then_some(name))
}

/// Whether a module is part of the interpreter or was installed into it, and so is there wherever the
/// program runs; not so the modules of the program itself.
pub(crate) fn is_installed(module: &Bound<'_, PyAny>) -> PyResult<bool> {
    static FOLDERS: PyOnceLock<Vec<String>> = PyOnceLock::new();
    let py = module.py();
    let folders = FOLDERS.get_or_try_init(py, || -> PyResult<_> {
        let paths = py.import("sysconfig")?.call_method0("get_paths")?;
        ["stdlib", "platstdlib", "purelib", "platlib"]
            .into_iter()
            .map(|name| Ok(format!("{}/", paths.get_item(name)?.extract::<String>()?)))
            .collect()
    })?;
    let Ok(spec) = module.getattr(intern!(py, "__spec__")) else {
        return Ok(false);
    };
    if spec.is_none() {
        return Ok(false);
    }
    let name: String = spec.getattr(intern!(py, "name"))?.extract()?;
    if name == "objspace" || name.starts_with("objspace.") {
        return Ok(true);
    }
    let origin = spec.getattr(intern!(py, "origin"))?.extract::<String>();
    Ok(origin.map_or(true, |origin| {
        matches!(&*origin, "built-in" | "frozen")
            || folders
                .iter()
                .any(|folder| origin.starts_with(folder.as_str()))
    }))
}

fn module_name(dict: &Bound<'_, PyDict>) -> PyResult<Option<String>> {
    let py = dict.py();
    Ok(dict
        .get_item(intern!(py, "__name__"))?
        .and_then(|name| name.extract().ok()))
}

/// `(make, arguments)` of a stand-in.
pub(crate) fn reduce<'py>(
    globals: &Bound<'py, Globals>,
    mode: CodeMode,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = globals.py();
    let dict = globals.get().dict.bind(py);
    if let Some(name) = importable(dict, mode)? {
        return reduced(py, "module_globals", (name,));
    }
    let name = module_name(dict)?.unwrap_or_else(|| "?".into());
    let (process, program) = origin(dict, &name)?;
    reduced(py, "namespace", (name, process, program))
}

/// Which process and which program a dict of globals comes from. Both are empty where that does not
/// make it findable: it is not the dict of a module.
fn origin<'py>(
    dict: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let py = dict.py();
    if let Some(origin) = dict.get_item(ORIGIN)? {
        return origin.extract();
    }
    let modules = maker::modules(py)?;
    let of_module = modules
        .get_item(name)
        .and_then(|module| module.getattr(intern!(py, "__dict__")))
        .is_ok_and(|theirs| theirs.is(dict));
    if of_module {
        Ok((PyBytes::new(py, process()), program(py)?))
    } else {
        Ok((PyBytes::new(py, b""), PyBytes::new(py, b"")))
    }
}

/// Under this name globals that were made from a pickle keep where they come from.
const ORIGIN: &str = "__objspace_origin__";

/// The global variables that `code` uses, of globals that travel by value; `None` if they do not.
pub(crate) fn used<'py>(
    dict: &Bound<'py, PyDict>,
    code: &Bound<'py, PyCode>,
    mode: CodeMode,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = dict.py();
    if importable(dict, mode)?.is_some() {
        return Ok(None);
    }
    let mut names = HashSet::new();
    let mut attributes = HashSet::new();
    gather(code, &mut names, &mut attributes)?;
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    let values = PyDict::new(py);
    let submodules = PyList::empty(py);
    let modules = maker::modules(py)?;
    for name in &names {
        let Some(value) = dict.get_item(name)? else {
            continue;
        };
        if let Ok(module) = value.cast::<PyModule>() {
            // `import a.b` binds a; the other side must import a.b as well.
            for attribute in &attributes {
                let full = format!("{}.{attribute}", module.name()?);
                if modules.contains(&full)? {
                    submodules.append(full)?;
                }
            }
        }
        values.set_item(name, value)?;
    }
    Ok(Some(PyTuple::new(
        py,
        [values.into_any(), submodules.into_any()],
    )?))
}

/// The names of globals in `code` and what is nested in it, and all other names.
fn gather(
    code: &Bound<'_, PyCode>,
    names: &mut HashSet<String>,
    attributes: &mut HashSet<String>,
) -> PyResult<()> {
    let py = code.py();
    let opcodes = opcodes(py)?;
    let all: Vec<String> = code.getattr(intern!(py, "co_names"))?.extract()?;
    let bytes = code.getattr(intern!(py, "co_code"))?;
    let mut extended = 0_usize;
    for unit in bytes.cast::<PyBytes>()?.as_bytes().chunks_exact(2) {
        let argument = extended << 8 | usize::from(unit[1]);
        extended = 0;
        if unit[0] == opcodes.extended {
            extended = argument;
        } else if unit[0] == opcodes.load_global {
            names.extend(all.get(argument >> 1).cloned());
        } else if opcodes.by_name.contains(&unit[0]) {
            names.extend(all.get(argument).cloned());
        }
    }
    attributes.extend(all);
    for constant in code.getattr(intern!(py, "co_consts"))?.try_iter()? {
        if let Ok(nested) = constant?.cast_into_exact::<PyCode>() {
            gather(&nested, names, attributes)?;
        }
    }
    Ok(())
}

struct Opcodes {
    extended: u8,
    load_global: u8,
    /// Opcodes whose argument is an index of `co_names` and that reach globals.
    by_name: Vec<u8>,
}

fn opcodes(py: Python<'_>) -> PyResult<&'static Opcodes> {
    static HERE: PyOnceLock<Opcodes> = PyOnceLock::new();
    HERE.get_or_try_init(py, || {
        let map = py.import("opcode")?.getattr("opmap")?;
        let number = |name: &str| -> PyResult<u8> { map.get_item(name)?.extract() };
        let by_name = [
            "LOAD_NAME",
            "STORE_GLOBAL",
            "DELETE_GLOBAL",
            "LOAD_FROM_DICT_OR_GLOBALS",
        ];
        Ok(Opcodes {
            extended: number("EXTENDED_ARG")?,
            load_global: number("LOAD_GLOBAL")?,
            // One of them is there from 3.12 on.
            by_name: by_name
                .iter()
                .filter_map(|name| number(name).ok())
                .collect(),
        })
    })
}

/// A number that tells this process, and what it forks, from others.
fn process() -> &'static [u8] {
    static NONCE: OnceLock<[u8; 16]> = OnceLock::new();
    NONCE.get_or_init(|| {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let half = || RandomState::new().build_hasher().finish().to_le_bytes();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&half());
        nonce[8..].copy_from_slice(&half());
        nonce
    })
}

/// A hash of the program's text: empty where `__main__` is no file.
pub(crate) fn program(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    static TEXT: PyOnceLock<Py<PyBytes>> = PyOnceLock::new();
    let hash = TEXT.get_or_try_init(py, || -> PyResult<_> {
        let main = py.import("sys")?.getattr("modules")?.get_item("__main__")?;
        let text = main
            .getattr("__file__")
            .and_then(|path| path.extract::<std::path::PathBuf>())
            .ok()
            .and_then(|path| std::fs::read(path).ok());
        let hash = text.map_or_else(Vec::new, |text| Sha256::digest(text)[..16].to_vec());
        Ok(PyBytes::new(py, &hash).unbind())
    })?;
    Ok(hash.bind(py).clone())
}

/// The globals of an imported module.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn module_globals<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyDict>> {
    let module = allow::import_named(name)?;
    if let Ok(module) = module.cast_exact::<PyModule>() {
        return Ok(module.dict());
    }
    Ok(module
        .getattr(intern!(name.py(), "__dict__"))?
        .cast_into::<PyDict>()?)
}

/// Globals by value: those of this process's module where it is the same one, else a new dict.
#[pyfunction]
pub(crate) fn namespace<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    written_by: &[u8],
    written_in: &[u8],
) -> PyResult<Bound<'py, PyDict>> {
    let text = name.to_cow()?;
    let main = matches!(&*text, "__main__" | "__mp_main__");
    let same = written_by == process()
        || (main && !written_in.is_empty() && program(py)?.as_bytes() == written_in);
    if same {
        let modules = maker::modules(py)?;
        let key = if main { "__main__" } else { &*text };
        if let Ok(module) = modules.get_item(key)
            && let Ok(module) = module.cast_into::<PyModule>()
        {
            return Ok(module.dict());
        }
    }
    let made = PyDict::new(py);
    made.set_item(intern!(py, "__name__"), name)?;
    let origin = (PyBytes::new(py, written_by), PyBytes::new(py, written_in));
    made.set_item(ORIGIN, origin)?;
    made.set_item(
        intern!(py, "__builtins__"),
        py.import(intern!(py, "builtins"))?,
    )?;
    Ok(made)
}

/// Fills globals by value, but not those of a module of this process.
pub(crate) fn fill(globals: &Bound<'_, PyDict>, used: &Bound<'_, PyTuple>) -> PyResult<()> {
    let py = globals.py();
    let (values, submodules): (Bound<'_, PyDict>, Bound<'_, PyList>) = used.extract()?;
    for name in submodules {
        allow::import(py, &name.extract::<String>()?)?;
    }
    if let Some(name) = module_name(globals)? {
        let modules = maker::modules(py)?;
        if let Ok(module) = modules.get_item(name)
            && let Ok(module) = module.cast_into::<PyModule>()
            && module.dict().is(globals)
        {
            return Ok(());
        }
    }
    globals.update(values.as_mapping())
}

/// Adds the globals that `code` uses to the reduction of an object with a frame of that code:
/// `(make, args, state, None, None, setter)`, in which `args` names the globals by [`wrap`].
pub(crate) fn with_used<'py>(
    reduction: Bound<'py, PyTuple>,
    globals: &Bound<'py, PyDict>,
    code: &Bound<'py, PyCode>,
    mode: CodeMode,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = globals.py();
    let Some(used) = used(globals, code, mode)? else {
        return Ok(reduction);
    };
    let (make, args) = (reduction.get_item(0)?, reduction.get_item(1)?);
    let (state, setter) = (
        reduction
            .get_item(2)
            .unwrap_or_else(|_| py.None().into_bound(py)),
        reduction
            .get_item(5)
            .unwrap_or_else(|_| py.None().into_bound(py)),
    );
    let state = (setter, state, wrap(globals)?, used).into_pyobject(py)?;
    phased(py, make, args, state.into_any(), "set_with_globals")
}

/// The setter that goes with [`with_used`].
#[pyfunction]
pub(crate) fn set_with_globals<'py>(
    object: &Bound<'py, PyAny>,
    state: (
        Bound<'py, PyAny>,
        Bound<'py, PyAny>,
        Bound<'py, PyAny>,
        Bound<'py, PyTuple>,
    ),
) -> PyResult<()> {
    let (setter, state, globals, used) = state;
    fill(&unwrap(&globals)?, &used)?;
    if !setter.is_none() {
        setter.call1((object, state))?;
    }
    Ok(())
}

/// Registers the makers of globals.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(module_globals, module)?)?;
    maker::add(module, wrap_pyfunction!(namespace, module)?)?;
    maker::add(module, wrap_pyfunction!(set_with_globals, module)?)
}
