//! Views of dicts, and iterators over dicts and sets.
//!
//! Pickle's own way with these iterators is an iterator over a list of the rest. That forgets the dict:
//! values that change later would not be seen, nor that its size has changed. Here an iterator keeps its
//! dict and how far it has come. A dict may still be empty when the iterator over it is loaded (when it
//! contains what iterates over it), so the loaded iterator looks at it when it is first asked.
//!
//! The order of a set is not the same in another process, so the rest of a set is a list all the same;
//! but the set is kept, to notice when its size changes.

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple, PyType};

use super::Kind;
use crate::pickling::reducer::{reduced, refused};
use crate::pickling::{errors, maker};

/// What of a dict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Keys,
    Values,
    Items,
}

impl Over {
    const ALL: [Self; 3] = [Self::Keys, Self::Values, Self::Items];

    fn method(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Values => "values",
            Self::Items => "items",
        }
    }

    fn parse(text: &str) -> PyResult<Self> {
        Self::ALL
            .into_iter()
            .find(|over| over.method() == text)
            .ok_or_else(|| errors::unpickling(format!("no view of a dict: {text:?}")))
    }

    fn view<'py>(self, dict: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        dict.call_method0(self.method())
    }
}

/// The types of this file.
pub(super) fn types(py: Python<'_>) -> PyResult<Vec<(Bound<'_, PyType>, Kind)>> {
    let builtins = py.import("builtins")?;
    let (dict, iter, reversed) = (
        PyDict::new(py).into_any(),
        builtins.getattr("iter")?,
        builtins.getattr("reversed")?,
    );
    let ordered = py.import("collections")?.getattr("OrderedDict")?.call0()?;
    let mut types = Vec::new();
    for over in Over::ALL {
        let view = over.view(&dict)?;
        types.push((view.get_type(), Kind::DictView(over)));
        types.push((
            iter.call1((&view,))?.get_type(),
            Kind::DictIterator(over, false),
        ));
        types.push((
            reversed.call1((&view,))?.get_type(),
            Kind::DictIterator(over, true),
        ));
        types.push((over.view(&ordered)?.get_type(), Kind::OrderedDictView(over)));
    }
    let set = iter.call1((PySet::empty(py)?,))?;
    types.push((set.get_type(), Kind::SetIterator));
    Ok(types)
}

/// The one object that another refers to first: the dict of a view, the mapping of a proxy.
pub(super) fn referent<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    py.import(intern!(py, "gc"))?
        .call_method1(intern!(py, "get_referents"), (object,))?
        .get_item(0)
}

pub(super) fn dict_view<'py>(
    view: &Bound<'py, PyAny>,
    over: Over,
) -> PyResult<Bound<'py, PyTuple>> {
    reduced(view.py(), "dict_view", (referent(view)?, over.method()))
}

pub(super) fn ordered_dict_view<'py>(
    view: &Bound<'py, PyAny>,
    over: Over,
) -> PyResult<Bound<'py, PyTuple>> {
    dict_view(view, over)
}

/// The view of a dict.
#[pyfunction(name = "dict_view")]
fn make_dict_view<'py>(dict: &Bound<'py, PyDict>, over: &str) -> PyResult<Bound<'py, PyAny>> {
    Over::parse(over)?.view(dict)
}

pub(super) fn dict_iterator<'py>(
    iterator: &Bound<'py, PyAny>,
    over: Over,
    reversed: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = iterator.py();
    let referents = py
        .import(intern!(py, "gc"))?
        .call_method1(intern!(py, "get_referents"), (iterator,))?;
    let none = py.None().into_bound(py);
    // Iterators over items also hold a tuple to use again.
    let Some(dict) = referents
        .try_iter()?
        .filter_map(Result::ok)
        .find(|object| object.is_instance_of::<PyDict>())
    else {
        // Exhausted: it has let go of its dict.
        return reduced(py, "dict_iterator", (none, over.method(), reversed, 0, 0));
    };
    let size = dict.cast::<PyDict>()?.len();
    let rest: usize = iterator
        .call_method0(intern!(py, "__length_hint__"))?
        .extract()?;
    // None left is also what it says of a dict whose size has changed; copying it tells.
    let changed = rest == 0 && iterator.call_method0(intern!(py, "__reduce__")).is_err();
    let taken = size
        .checked_sub(rest)
        .ok_or_else(|| refused("an iterator over a dict has more before it than there is"))?;
    let size = if changed { None } else { Some(size) };
    reduced(
        py,
        "dict_iterator",
        (dict, over.method(), reversed, taken, size),
    )
}

/// An iterator over a dict that goes on where another one stood.
#[pyfunction(name = "dict_iterator")]
fn make_dict_iterator<'py>(
    py: Python<'py>,
    dict: Option<Bound<'py, PyDict>>,
    over: &str,
    reversed: bool,
    taken: usize,
    size: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let over = Over::parse(over)?;
    let Some(dict) = dict else {
        let nothing = over.view(&PyDict::new(py))?;
        let name = if reversed { "reversed" } else { "iter" };
        let iterator = py.import("builtins")?.getattr(name)?.call1((nothing,))?;
        // It notices that it is at its end by being asked.
        let _ = iterator.call_method0("__next__");
        return Ok(iterator);
    };
    let position = Position {
        dict: dict.clone().unbind(),
        over,
        reversed,
        taken,
        size,
    };
    if size == Some(dict.len()) {
        return position.begin(py);
    }
    let waiting = DictIterator {
        state: Mutex::new(State::Waiting(position)),
    };
    Ok(Bound::new(py, waiting)?.into_any())
}

struct Position {
    dict: Py<PyDict>,
    over: Over,
    reversed: bool,
    taken: usize,
    /// How large the dict must be; `None`: its size had changed during the iteration.
    size: Option<usize>,
}

impl Position {
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let dict = self.dict.bind(py);
        if self.size != Some(dict.len()) {
            return Err(PyRuntimeError::new_err(
                "dictionary changed size during iteration",
            ));
        }
        let view = self.over.view(dict)?;
        let iterator = if self.reversed {
            py.import("builtins")?.getattr("reversed")?.call1((view,))?
        } else {
            view.try_iter()?.into_any()
        };
        for _ in 0..self.taken.min(dict.len()) {
            iterator.call_method0(intern!(py, "__next__"))?;
        }
        Ok(iterator)
    }
}

enum State {
    Waiting(Position),
    Begun(Py<PyAny>),
}

/// An iterator over a dict that was not complete when the iterator was loaded.
#[pyclass(frozen, module = "objspace._pickles")]
struct DictIterator {
    state: Mutex<State>,
}

impl DictIterator {
    fn iterator<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let position = {
            let state = self
                .state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            match &*state {
                State::Begun(iterator) => return Ok(iterator.bind(py).clone()),
                State::Waiting(position) => Position {
                    dict: position.dict.clone_ref(py),
                    ..*position
                },
            }
        };
        let iterator = position.begin(py)?;
        let old = std::mem::replace(
            &mut *self
                .state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
            State::Begun(iterator.clone().unbind()),
        );
        drop(old);
        Ok(iterator)
    }
}

#[pymethods]
impl DictIterator {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        next(&self.iterator(py)?)
    }

    fn __length_hint__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.iterator(py)?.call_method0("__length_hint__")
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*state {
            State::Waiting(position) => {
                let arguments = (
                    position.dict.bind(py),
                    position.over.method(),
                    position.reversed,
                    position.taken,
                    position.size,
                );
                reduced(py, "dict_iterator", arguments)
            }
            State::Begun(iterator) => {
                let iterator = iterator.bind(py).clone();
                drop(state);
                let kinds = super::kinds(py)?;
                match kinds.of(&iterator.get_type()) {
                    Some(Kind::DictIterator(over, reversed)) => {
                        dict_iterator(&iterator, over, reversed)
                    }
                    _ => Err(refused("an iterator over a subclass of dict")),
                }
            }
        }
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        if let Ok(state) = self.state.try_lock() {
            match &*state {
                State::Waiting(position) => visit.call(&position.dict)?,
                State::Begun(iterator) => visit.call(iterator)?,
            }
        }
        Ok(())
    }
}

fn next<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    use pyo3::exceptions::PyStopIteration;
    let py = iterator.py();
    match iterator.call_method0(intern!(py, "__next__")) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn set_iterator<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = iterator.py();
    let referents = py
        .import(intern!(py, "gc"))?
        .call_method1(intern!(py, "get_referents"), (iterator,))?;
    let set = referents.try_iter()?.next().transpose()?;
    let Some(set) = set else {
        let none = py.None();
        return reduced(py, "set_iterator", (none, PyList::empty(py), 0));
    };
    // Raises what iterating would raise, if the size has changed: then nothing is left of it.
    let (rest, size) = match iterator.call_method0(intern!(py, "__reduce__")) {
        Ok(own) => (own.get_item(1)?.get_item(0)?, Some(set.len()?)),
        Err(_) => (PyList::empty(py).into_any(), None),
    };
    reduced(py, "set_iterator", (set, rest, size))
}

/// An iterator over the rest of a set.
#[pyfunction(name = "set_iterator")]
fn make_set_iterator<'py>(
    py: Python<'py>,
    set: Option<Bound<'py, PyAny>>,
    rest: Bound<'py, PyList>,
    size: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let made = SetIterator {
        set: set.map(Bound::unbind),
        size,
        rest: Mutex::new((rest.unbind(), 0)),
    };
    Ok(Bound::new(py, made)?.into_any())
}

/// Goes through the rest of a set, in the order that it had where it was pickled.
#[pyclass(frozen, module = "objspace._pickles")]
struct SetIterator {
    /// `None`: exhausted.
    set: Option<Py<PyAny>>,
    /// How large the set must be; `None`: its size had changed during the iteration.
    size: Option<usize>,
    rest: Mutex<(Py<PyList>, usize)>,
}

#[pymethods]
impl SetIterator {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(set) = &self.set else {
            return Ok(None);
        };
        let (rest, position) = {
            let mut rest = self.lock();
            rest.1 += 1;
            (rest.0.clone_ref(py), rest.1 - 1)
        };
        let rest = rest.bind(py);
        // At its end it has let go of the set, whose size no longer matters.
        if position > rest.len() {
            return Ok(None);
        }
        if self.size != Some(set.bind(py).len()?) {
            self.lock().1 -= 1;
            return Err(PyRuntimeError::new_err("Set changed size during iteration"));
        }
        rest.get_item(position)
            .map_or(Ok(None), |item| Ok(Some(item)))
    }

    fn __length_hint__(&self, py: Python<'_>) -> usize {
        let rest = self.lock();
        rest.0.bind(py).len().saturating_sub(rest.1)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let (rest, position) = {
            let rest = self.lock();
            (rest.0.clone_ref(py), rest.1)
        };
        let rest = rest.bind(py);
        let set = if position > rest.len() {
            None
        } else {
            self.set.as_ref()
        };
        let rest = rest.get_slice(position, rest.len());
        reduced(
            py,
            "set_iterator",
            (set.map(|set| set.bind(py)), rest, self.size),
        )
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        if let Some(set) = &self.set {
            visit.call(set)?;
        }
        if let Ok(rest) = self.rest.try_lock() {
            visit.call(&rest.0)?;
        }
        Ok(())
    }
}

impl SetIterator {
    fn lock(&self) -> std::sync::MutexGuard<'_, (Py<PyList>, usize)> {
        self.rest
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maker::add(module, wrap_pyfunction!(make_dict_view, module)?)?;
    maker::add(module, wrap_pyfunction!(make_dict_iterator, module)?)?;
    maker::add(module, wrap_pyfunction!(make_set_iterator, module)?)
}
