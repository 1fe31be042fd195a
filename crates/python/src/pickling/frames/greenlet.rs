//! Greenlets: those that have switched away, fresh ones and dead ones.
//!
//! `(make_greenlet, (class,), state, None, None, set_greenlet)` with the state
//! `(stage, run, parent, context, attributes, slots, frames)`. `frames` is that of a continuation; `parent` is
//! `None` for the greenlet that pickles, and for the root of a thread: the copy gets the greenlet that
//! loads it. A reference to the root of this thread is one to the root of the thread that loads.
//!
//! A copy of one that has switched away is started while it is loaded: a [`Rest`], which it runs,
//! builds its frames, and switches back from where the innermost waits. So `switch` and `throw` reach
//! its frames, which can be looked at, and it counts as started, as the original does.
//!
//! The library is not imported here: as long as nobody has, there are no greenlets.

use std::sync::{Mutex, PoisonError};

use objspace_interp::chain::{self, Switches};
use objspace_interp::owned::Owned;
use pyo3::exceptions::{PyAttributeError, PyBaseException, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use super::chain::{not_captured, run_on_alone, state_of, used_by};
use crate::pickling::maker;
use crate::pickling::reducer::{Pass, phased, refused};
use crate::pickling::{errors, globals};

/// Has not begun.
const FRESH: u8 = 0;
/// Has switched away.
const AWAY: u8 = 1;
const DEAD: u8 = 2;

/// What is used of the greenlet library, with the meaning that it has for the class itself.
struct Library {
    class: Py<PyType>,
    current: Py<PyAny>,
    switches: Option<Switches>,
}

impl Library {
    /// `None`: nobody has imported it.
    fn get(py: Python<'_>) -> PyResult<Option<&'static Self>> {
        static LIBRARY: PyOnceLock<Library> = PyOnceLock::new();
        if let Some(known) = LIBRARY.get(py) {
            return Ok(Some(known));
        }
        let modules = maker::modules(py)?.cast_into::<PyDict>()?;
        let Some(module) = modules.get_item(intern!(py, "greenlet"))? else {
            return Ok(None);
        };
        let Ok(class) = module.getattr(intern!(py, "greenlet")) else {
            return Ok(None);
        };
        let Ok(class) = class.cast_into::<PyType>() else {
            return Ok(None);
        };
        // Another module may have this name.
        if !class.hasattr(intern!(py, "gr_frame"))? {
            return Ok(None);
        }
        let current = module.getattr(intern!(py, "getcurrent"))?;
        LIBRARY
            .get_or_try_init(py, || {
                Ok(Self {
                    switches: switches(&module, &class, &current)?,
                    class: class.unbind(),
                    current: current.unbind(),
                })
            })
            .map(Some)
    }

    fn or_refuse(py: Python<'_>) -> PyResult<&'static Self> {
        Self::get(py)?.ok_or_else(|| refused("the greenlet library is not imported"))
    }

    fn current<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.current.bind(py).call0()
    }

    /// An attribute, as the class defines it: derived classes may have others of these names.
    fn part<'py>(&self, object: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        self.class
            .bind(py)
            .getattr(name)?
            .call_method1(intern!(py, "__get__"), (object,))
    }

    fn set_part(
        &self,
        object: &Bound<'_, PyAny>,
        name: &str,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = object.py();
        let part = self.class.bind(py).getattr(name)?;
        part.call_method1(intern!(py, "__set__"), (object, value))?;
        Ok(())
    }

    /// The stage of a greenlet.
    fn stage(&self, object: &Bound<'_, PyAny>) -> PyResult<u8> {
        let py = object.py();
        if self.part(object, "dead")?.is_truthy()? {
            return Ok(DEAD);
        }
        let bool_of = self.class.bind(py).getattr(intern!(py, "__bool__"))?;
        let active = bool_of.call1((object,))?.is_truthy()?;
        Ok(if active { AWAY } else { FRESH })
    }

    /// The one that all others of its thread descend from.
    fn root<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mut object = object.clone();
        loop {
            let parent = self.part(&object, "parent")?;
            if parent.is_none() {
                return Ok(object);
            }
            object = parent;
        }
    }
}

/// `None`: a version that does not keep how frames were linked, or whose methods are others.
fn switches(
    module: &Bound<'_, PyAny>,
    class: &Bound<'_, PyType>,
    current: &Bound<'_, PyAny>,
) -> PyResult<Option<Switches>> {
    let version: String = module.getattr("__version__")?.extract()?;
    let mut numbers = version
        .split('.')
        .map(|number| number.trim_end_matches(|c: char| !c.is_ascii_digit()))
        .map_while(|number| number.parse::<u32>().ok());
    let version = [(); 3].map(|()| numbers.next().unwrap_or(0));
    if version < [3, 0, 3] {
        return Ok(None);
    }
    let (switch, throw) = (class.getattr("switch")?, class.getattr("throw")?);
    let some = current.call0()?;
    let (bound_switch, bound_throw) = (
        switch.call_method1("__get__", (&some,))?,
        throw.call_method1("__get__", (&some,))?,
    );
    // SAFETY: attached; the class, with its methods, is that of an extension and is never unloaded.
    Ok(unsafe {
        Switches::of(
            [switch.as_ptr(), throw.as_ptr()],
            [bound_switch.as_ptr(), bound_throw.as_ptr()],
        )
    })
}

/// The class of greenlets, if `class` is that or derived from it.
pub(crate) fn class_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyType>>> {
    let py = class.py();
    // SAFETY: a live type. Only some classes have a truth of their own, as this one has: the others
    // are not looked at any further.
    let has_truth = unsafe {
        let numbers = (*class.as_type_ptr()).tp_as_number;
        !numbers.is_null() && (*numbers).nb_bool.is_some()
    };
    if !has_truth {
        return Ok(None);
    }
    let Some(library) = Library::get(py)? else {
        return Ok(None);
    };
    let base = library.class.bind(py);
    Ok(class.is_subclass(base)?.then(|| base.clone()))
}

/// The class of greenlets, if the library is there; it is imported.
pub(crate) fn class_if_there(py: Python<'_>) -> PyResult<Option<Bound<'_, PyType>>> {
    if py.import(intern!(py, "greenlet")).is_err() {
        return Ok(None);
    }
    known_class(py)
}

/// The same if the library has been imported.
pub(crate) fn known_class(py: Python<'_>) -> PyResult<Option<Bound<'_, PyType>>> {
    Ok(Library::get(py)?.map(|library| library.class.bind(py).clone()))
}

pub(crate) fn reduce<'py>(
    object: &Bound<'py, PyAny>,
    pass: &Pass,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let library = Library::or_refuse(py)?;
    let current = library.current(py)?;
    let root = library.root(&current)?;
    if object.is(&root) {
        let make = maker::get(py, "root_greenlet")?;
        return PyTuple::new(py, [make, PyTuple::empty(py).into_any()]);
    }
    let cannot = |why: &str| Ok(refused(format!("cannot pickle {}: {why}", object.repr()?)));
    if object.is(&current) {
        return Err(
            cannot("it is the greenlet that runs; pickling.capture() gives its frames")
                .unwrap_or_else(|error: PyErr| error),
        );
    }
    let refuse = |why: &str| cannot(why).unwrap_or_else(|error: PyErr| error);
    let stage = library.stage(object)?;
    let parent = library.part(object, "parent")?;
    if stage == AWAY && (parent.is_none() || !library.root(object)?.is(&root)) {
        return Err(refuse("it belongs to another thread"));
    }
    let none = py.None().into_bound(py);
    let keeps_parent =
        !parent.is_none() && !parent.is(&current) && !library.part(&parent, "parent")?.is_none();
    let parent = if keeps_parent { parent } else { none.clone() };
    let run = match library.part(object, "run") {
        Ok(run) if stage == FRESH => run,
        Ok(_) => none.clone(),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => none.clone(),
        Err(error) => return Err(error),
    };
    let frames = match stage {
        AWAY => Some(frames(library, object, &refuse)?),
        _ => None,
    };
    let pairs = match &frames {
        Some(frames) => used_by(frames, Some(pass))?,
        None => Vec::new(),
    };
    let attributes = object
        .getattr(intern!(py, "__dict__"))?
        .cast_into::<PyDict>()?;
    let attributes = if attributes.is_empty() {
        none.clone()
    } else {
        attributes.copy()?.into_any()
    };
    let slots = slots(object)?;
    let context = match stage {
        DEAD => none,
        _ => library.part(object, "gr_context")?,
    };
    let make = maker::get(py, "make_greenlet")?;
    let args = PyTuple::new(py, [object.get_type()])?.into_any();
    let state = (stage, run, parent, context, attributes, slots, frames)
        .into_pyobject(py)?
        .into_any();
    let mut reduction = phased(py, make, args, state, "set_greenlet")?;
    for (globals, code) in pairs {
        reduction = globals::with_used(reduction, &globals, &code, pass.mode)?;
    }
    Ok(reduction)
}

/// What is in the slots of a derived class.
fn slots<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = object.py();
    let names = py
        .import(intern!(py, "copyreg"))?
        .call_method1(intern!(py, "_slotnames"), (object.get_type(),))?
        .cast_into::<PyList>()?;
    let found = PyDict::new(py);
    for name in names {
        if let Ok(value) = object.getattr(name.cast::<PyString>()?) {
            found.set_item(name, value)?;
        }
    }
    Ok((!found.is_empty()).then_some(found))
}

/// The frames of a greenlet that has switched away, as those of a continuation.
fn frames<'py>(
    library: &Library,
    object: &Bound<'py, PyAny>,
    refuse: &dyn Fn(&str) -> PyErr,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let Some(switches) = library.switches else {
        return Err(refuse("greenlet 3.0.3 or later is needed for that"));
    };
    let top = library.part(object, "gr_frame")?;
    if top.is_none() {
        return Err(refuse("it has no frames of Python code"));
    }
    let (run, handled) = running(library, object, refuse)?;
    let run = if run.is_instance_of::<Rest>() {
        std::ptr::null_mut()
    } else {
        run.as_ptr()
    };
    // SAFETY: attached; the greenlet is one of this thread, which has switched away.
    let records = unsafe { chain::capture_switched(top.as_ptr(), switches, run) };
    let records = records.map_err(|why| {
        not_captured(
            py,
            why,
            "the frames of a greenlet are not linked as they should be",
        )
    })?;
    let handled = match &handled {
        // SAFETY: attached; a live object.
        Some(handled) => unsafe { Owned::new(handled.as_ptr()) },
        None => None,
    };
    state_of(py, &records, handled.as_ref())
}

/// What a greenlet that was started runs, and the exception that its functions handle. Only the
/// collector is told.
fn running<'py>(
    library: &Library,
    object: &Bound<'py, PyAny>,
    refuse: &dyn Fn(&str) -> PyErr,
) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    let py = object.py();
    let class = library.class.bind(py);
    let attributes = object.getattr(intern!(py, "__dict__"))?;
    let context = library.part(object, "gr_context")?;
    // SAFETY: attached; what is told lives for as long as the greenlet does not run.
    let told: Vec<Bound<'py, PyAny>> = unsafe {
        let told = chain::referents(object.as_ptr(), class.as_ptr()).into_iter();
        told.map(|object| Bound::from_borrowed_ptr(py, object))
            .collect()
    };
    let (mut run, mut handled) = (Vec::new(), Vec::new());
    for item in told {
        if item.is_instance_of::<PyBaseException>() {
            handled.push(item);
        } else if !item.is_none()
            && !item.is(&attributes)
            && !item.is(&context)
            && !item.is_instance(class)?
        {
            run.push(item);
        }
    }
    match (run.pop(), handled.pop()) {
        (Some(one), handled_one) if run.is_empty() && handled.is_empty() => Ok((one, handled_one)),
        _ => Err(refuse("what it runs cannot be told")),
    }
}

/// The frames, and the greenlet to switch back to. No frames: the greenlet ends at once.
type Beginning = (Option<Py<PyTuple>>, Py<PyAny>);

/// What a greenlet runs that was loaded: the rest of the frames of another one.
#[pyclass(frozen, module = "objspace._core")]
struct Rest {
    /// Until that is done.
    start: Mutex<Option<Beginning>>,
}

impl Rest {
    fn take(&self) -> Option<Beginning> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        start.take()
    }
}

#[pymethods]
impl Rest {
    fn __call__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let library = Library::or_refuse(py)?;
        let Some((frames, back)) = this.get().take() else {
            return Err(errors::unpickling("this greenlet has been started already"));
        };
        let Some(frames) = frames else {
            return Ok(py.None().into_bound(py));
        };
        let mut back = Some(back);
        run_on_alone(frames.bind(py), || {
            let method = match back.take() {
                Some(back) => library.part(back.bind(py), "switch")?,
                None => return Err(errors::unpickling("this greenlet waits already")),
            };
            method.call0()
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Not waited for: a collector that finds it locked looks again later.
        if let Ok(start) = self.start.try_lock()
            && let Some((frames, back)) = &*start
        {
            visit.call(frames)?;
            visit.call(back)?;
        }
        Ok(())
    }
}

/// The root of the thread that loads.
#[pyfunction]
fn root_greenlet(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let library = imported(py)?;
    library.root(&library.current(py)?)
}

fn imported(py: Python<'_>) -> PyResult<&'static Library> {
    if Library::get(py)?.is_none() {
        crate::pickling::allow::import(py, "greenlet").map_err(|error| {
            let told = errors::unpickling(
                "the pickle contains a greenlet: the greenlet library has to be installed",
            );
            told.set_cause(py, Some(error));
            told
        })?;
    }
    Library::or_refuse(py)
}

#[pyfunction]
#[pyo3(signature = (kind, /))]
fn make_greenlet<'py>(kind: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = kind.py();
    let class = imported(py)?.class.bind(py);
    if !kind.is_subclass(class)? {
        return Err(PyTypeError::new_err(format!(
            "{} is no class of greenlets",
            kind.repr()?
        )));
    }
    class.getattr(intern!(py, "__new__"))?.call1((kind,))
}

type State<'py> = (
    u8,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyDict>>,
    Option<Bound<'py, PyDict>>,
    Option<Bound<'py, PyTuple>>,
);

#[pyfunction]
#[pyo3(signature = (object, state, /))]
fn set_greenlet<'py>(object: &Bound<'py, PyAny>, state: State<'py>) -> PyResult<()> {
    let py = object.py();
    let library = imported(py)?;
    let (stage, run, parent, context, attributes, slots, frames) = state;
    if !object.is_instance(library.class.bind(py))? {
        return Err(PyTypeError::new_err("this is no greenlet"));
    }
    if library.stage(object)? != FRESH || library.part(object, "run").is_ok() {
        return Err(errors::unpickling("this greenlet has been loaded already"));
    }
    if (stage == AWAY) != frames.is_some() || stage > DEAD {
        return Err(super::damaged());
    }
    if let Some(frames) = &frames {
        super::chain::records_of(frames)?;
    }
    let own = object
        .getattr(intern!(py, "__dict__"))?
        .cast_into::<PyDict>()?;
    if !context.is_none() {
        library.set_part(object, "gr_context", &context)?;
    }
    match stage {
        FRESH if run.is_none() => {}
        FRESH => library.set_part(object, "run", &run)?,
        _ => start(library, object, &own, frames)?,
    }
    if !parent.is_none() {
        library.set_part(object, "parent", &parent)?;
    }
    if let Some(attributes) = attributes {
        own.update(attributes.as_mapping())?;
    }
    for (name, value) in slots.iter().flatten() {
        object.setattr(name.cast_into::<PyString>()?, value)?;
    }
    Ok(())
}

/// Starts a greenlet: it switches back at once, to go on with its frames later, or ends.
fn start<'py>(
    library: &Library,
    object: &Bound<'py, PyAny>,
    own: &Bound<'py, PyDict>,
    frames: Option<Bound<'py, PyTuple>>,
) -> PyResult<()> {
    let py = object.py();
    let current = library.current(py)?;
    library.set_part(object, "parent", &current)?;
    let away = frames.is_some();
    let rest = Rest {
        start: Mutex::new(Some((frames.map(Bound::unbind), current.unbind()))),
    };
    let rest = Bound::new(py, rest)?.into_any();
    // A class may have a method `run`: what the object itself has comes before that.
    let name = intern!(py, "run");
    own.set_item(name, &rest)?;
    library.set_part(object, "run", &rest)?;
    let started = library.part(object, "switch")?.call0();
    if own.contains(name)? {
        own.del_item(name)?;
    }
    started?;
    let begun = rest.cast::<Rest>()?.get().take().is_none();
    if !begun || (library.stage(object)? == AWAY) != away {
        return Err(errors::unpickling(
            "this greenlet cannot be started: its class has a `run` that cannot be replaced",
        ));
    }
    Ok(())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(root_greenlet, module)?)?;
    maker::add(module, wrap_pyfunction!(make_greenlet, module)?)?;
    maker::add(module, wrap_pyfunction!(set_greenlet, module)?)
}
