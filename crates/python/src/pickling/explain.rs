//! The path to the object that could not be pickled.
//!
//! A pickler knows what it fails on, not how it got there. After a failure the same objects are walked
//! once more, with names for the steps, until the reduction of one of them fails:
//! `frame main() line 12, local 'sock' → socket`. Nothing is written, and each object is met once.

use std::collections::{HashMap, HashSet};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple, PyType,
};

use super::reducer::{Pass, reduce};

/// Objects looked at before giving up.
const MOST: usize = 1_000_000;
/// Steps of a path that are told.
const STEPS_TOLD: usize = 12;

struct Step {
    /// The index of the step before; `None`: the object that was to be pickled.
    parent: Option<usize>,
    label: String,
}

/// Finds the object that cannot be pickled, and words the error.
///
/// `error` is what the pickler raised. It is returned as it is where no reduction fails by itself.
pub(crate) fn explain<'py>(
    root: &Bound<'py, PyAny>,
    pass: &Pass,
    persistent_id: Option<&Bound<'py, PyAny>>,
    error: PyErr,
) -> PyErr {
    let py = root.py();
    if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
        return error;
    }
    match search(root, pass, persistent_id) {
        Ok(Some((path, object, cause))) => {
            let name = object
                .get_type()
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string());
            let reason = cause.value(py).to_string();
            let text = if path.is_empty() {
                reason
            } else {
                format!("{path} → {name}: {reason}")
            };
            let told = super::errors::pickling(text);
            told.set_cause(py, Some(cause));
            told
        }
        Ok(None) | Err(_) => error,
    }
}

type Found<'py> = (String, Bound<'py, PyAny>, PyErr);

fn search<'py>(
    root: &Bound<'py, PyAny>,
    pass: &Pass,
    persistent_id: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Found<'py>>> {
    let mut steps = vec![Step {
        parent: None,
        label: String::new(),
    }];
    // All objects met are kept alive, so that no address stands for two of them.
    let mut seen = HashSet::new();
    let mut alive: Vec<Bound<'py, PyAny>> = Vec::new();
    let mut waiting = vec![(root.clone(), 0)];
    while let Some((object, step)) = waiting.pop() {
        if is_plain(&object) || !seen.insert(object.as_ptr() as usize) {
            continue;
        }
        if alive.len() >= MOST {
            return Ok(None);
        }
        alive.push(object.clone());
        // What the pickler replaces by a name of its own is not taken apart.
        if let Some(function) = persistent_id
            && !function.call1((&object,))?.is_none()
        {
            continue;
        }
        let children = match children(&object, pass) {
            Ok(children) => children,
            Err(cause) => return Ok(Some((path(&steps, step), object, cause))),
        };
        // The last is looked at first: the first child has to be put last.
        for (label, child) in children.into_iter().rev() {
            if is_plain(&child) {
                continue;
            }
            steps.push(Step {
                parent: Some(step),
                label,
            });
            waiting.push((child, steps.len() - 1));
        }
    }
    Ok(None)
}

fn path(steps: &[Step], last: usize) -> String {
    let mut labels = Vec::new();
    let mut current = Some(last);
    while let Some(index) = current {
        let step = &steps[index];
        if !step.label.is_empty() {
            labels.push(step.label.as_str());
        }
        current = step.parent;
    }
    labels.reverse();
    if labels.len() > STEPS_TOLD {
        let left_out = labels.len() - STEPS_TOLD;
        let mut told = labels[..STEPS_TOLD / 2].join(", ");
        told.push_str(&format!(", … {left_out} steps …, "));
        told.push_str(&labels[labels.len() - STEPS_TOLD / 2..].join(", "));
        return told;
    }
    labels.join(", ")
}

fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    object.is_none()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyBytes>()
}

type Children<'py> = Vec<(String, Bound<'py, PyAny>)>;

/// What an object consists of, with names; an error is the reason why it cannot be pickled.
fn children<'py>(object: &Bound<'py, PyAny>, pass: &Pass) -> PyResult<Children<'py>> {
    if let Ok(dict) = object.cast_exact::<PyDict>() {
        return Ok(dict
            .iter()
            .flat_map(|(key, value)| {
                let name = short(&key);
                [(format!("key {name}"), key), (format!("[{name}]"), value)]
            })
            .collect());
    }
    let numbered = |items: Vec<Bound<'py, PyAny>>| {
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| (format!("[{index}]"), item))
            .collect()
    };
    if let Ok(list) = object.cast_exact::<PyList>() {
        return Ok(numbered(list.iter().collect()));
    }
    if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return Ok(numbered(tuple.iter().collect()));
    }
    if object.is_exact_instance_of::<PySet>() || object.is_exact_instance_of::<PyFrozenSet>() {
        let items: Vec<_> = object.try_iter()?.collect::<PyResult<_>>()?;
        return Ok(items
            .into_iter()
            .map(|item| ("a member".to_owned(), item))
            .collect());
    }
    if let Some(reduced) = reduce(object, pass)? {
        let Ok(parts) = reduced.cast_into::<PyTuple>() else {
            return Ok(Vec::new());
        };
        let labels = Labels::of(object);
        let mut children = Vec::new();
        // The function that makes it, and how it is found, are not part of the object.
        for part in parts.iter().skip(1) {
            parts_of(&part, &labels, &mut children, 0);
        }
        return Ok(children);
    }
    if object.is_instance_of::<PyType>() || is_function(object) {
        return Ok(Vec::new());
    }
    generic(object)
}

/// What the parts of an object are called, by their addresses.
struct Labels {
    names: HashMap<usize, String>,
    /// What has no name of its own.
    others: String,
}

impl Labels {
    fn of(object: &Bound<'_, PyAny>) -> Self {
        let mut names = HashMap::new();
        let (named, others) = named_children(object);
        for (name, value) in named.into_iter().chain(attributes(object)) {
            names.entry(value.as_ptr() as usize).or_insert(name);
        }
        Self { names, others }
    }

    /// The name of a part; that of a variable which is shared stands on what its cell contains.
    fn get(&self, part: &Bound<'_, PyAny>) -> String {
        let known = self.names.get(&(part.as_ptr() as usize)).or_else(|| {
            let contents = part.getattr("cell_contents").ok()?;
            self.names.get(&(contents.as_ptr() as usize))
        });
        known.unwrap_or(&self.others).clone()
    }
}

fn is_function(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<pyo3::types::PyFunction>()
        || object.is_instance_of::<pyo3::types::PyCFunction>()
}

/// The values in a reduction; its own tuples, dicts and lists are no steps of a path.
fn parts_of<'py>(
    part: &Bound<'py, PyAny>,
    labels: &Labels,
    children: &mut Children<'py>,
    depth: usize,
) {
    if is_plain(part) {
        return;
    }
    let known = labels.names.contains_key(&(part.as_ptr() as usize));
    if depth < 4 && !known {
        if let Ok(tuple) = part.cast_exact::<PyTuple>() {
            for item in tuple {
                parts_of(&item, labels, children, depth + 1);
            }
            return;
        }
        if let Ok(list) = part.cast_exact::<PyList>() {
            for item in list {
                parts_of(&item, labels, children, depth + 1);
            }
            return;
        }
        if let Ok(dict) = part.cast_exact::<PyDict>() {
            for (_, value) in dict {
                parts_of(&value, labels, children, depth + 1);
            }
            return;
        }
    }
    children.push((labels.get(part), part.clone()));
}

/// The parts of an object that pickle itself takes apart.
fn generic<'py>(object: &Bound<'py, PyAny>) -> PyResult<Children<'py>> {
    let py = object.py();
    let class = object.get_type();
    let table = py
        .import(intern!(py, "copyreg"))?
        .getattr(intern!(py, "dispatch_table"))?;
    let reduced = match table.get_item(&class) {
        Ok(function) => function.call1((object,))?,
        Err(_) => object.call_method1(intern!(py, "__reduce_ex__"), (4,))?,
    };
    let Ok(parts) = reduced.cast_into::<PyTuple>() else {
        return Ok(Vec::new());
    };
    let labels = Labels::of(object);
    let mut children = Vec::new();
    for (index, part) in parts.iter().enumerate().skip(1) {
        if index != 3 && index != 4 {
            parts_of(&part, &labels, &mut children, 0);
            continue;
        }
        // Items of lists and dicts: the iterator is used up by this, it is ours.
        for (number, item) in part.try_iter().into_iter().flatten().enumerate() {
            let item = item?;
            if index == 3 {
                children.push((format!("[{number}]"), item));
            } else if let Ok((key, value)) =
                item.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()
            {
                children.push((format!("[{}]", short(&key)), value));
            }
        }
    }
    Ok(children)
}

/// The attributes in the `__dict__` of an object.
fn attributes<'py>(object: &Bound<'py, PyAny>) -> Children<'py> {
    let py = object.py();
    if object.is_instance_of::<PyType>() || object.is_instance_of::<PyModule>() {
        return Vec::new();
    }
    let Ok(dict) = object.getattr(intern!(py, "__dict__")) else {
        return Vec::new();
    };
    let Ok(dict) = dict.cast_into_exact::<PyDict>() else {
        return Vec::new();
    };
    let class = object.get_type();
    let class = class
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string());
    dict.iter()
        .map(|(name, value)| (format!("{class}.{name}"), value))
        .collect()
}

/// The variables of frames, generators and functions, and what their other parts are called.
fn named_children<'py>(object: &Bound<'py, PyAny>) -> (Children<'py>, String) {
    let nothing = || (Vec::new(), String::new());
    if object.is_instance_of::<PyType>() {
        return nothing();
    }
    let kinds = [
        ("gi_frame", "generator"),
        ("cr_frame", "coroutine"),
        ("ag_frame", "async generator"),
    ];
    for (name, kind) in kinds {
        if let Ok(frame) = object.getattr(name) {
            return frame_variables(&frame, kind).unwrap_or_else(|_| nothing());
        }
    }
    if let Ok(frame) = object.getattr("gr_frame") {
        return greenlet_variables(frame).unwrap_or_else(|_| nothing());
    }
    if object.is_instance_of::<pyo3::types::PyFrame>() {
        return frame_variables(object, "frame").unwrap_or_else(|_| nothing());
    }
    if let Ok(function) = object.cast::<pyo3::types::PyFunction>() {
        return function_variables(function.as_any()).unwrap_or_else(|_| nothing());
    }
    nothing()
}

fn frame_variables<'py>(
    frame: &Bound<'py, PyAny>,
    kind: &str,
) -> PyResult<(Children<'py>, String)> {
    let py = frame.py();
    let code = frame.getattr(intern!(py, "f_code"))?;
    let name: String = code.getattr(intern!(py, "co_name"))?.extract()?;
    let line = frame.getattr(intern!(py, "f_lineno"))?;
    let locals = frame.getattr(intern!(py, "f_locals"))?;
    let title = format!("{kind} {name}() line {line}");
    let mut children = Vec::new();
    for item in locals.call_method0("items")?.try_iter()? {
        let (local, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
        children.push((format!("{title}, local '{local}'"), value));
    }
    Ok((children, title))
}

/// The variables of all frames of a greenlet, innermost first.
fn greenlet_variables<'py>(innermost: Bound<'py, PyAny>) -> PyResult<(Children<'py>, String)> {
    let mut children = Vec::new();
    let mut frame = innermost;
    while !frame.is_none() {
        children.extend(frame_variables(&frame, "greenlet, frame")?.0);
        frame = frame.getattr("f_back")?;
    }
    Ok((children, "greenlet".to_owned()))
}

fn function_variables<'py>(function: &Bound<'py, PyAny>) -> PyResult<(Children<'py>, String)> {
    let name: String = function.getattr("__qualname__")?.extract()?;
    let mut children = Vec::new();
    let code = function.getattr("__code__")?;
    let free: Vec<String> = code.getattr("co_freevars")?.extract()?;
    if let Ok(cells) = function.getattr("__closure__")?.cast_into::<PyTuple>() {
        for (variable, cell) in free.into_iter().zip(cells.iter()) {
            if let Ok(value) = cell.getattr("cell_contents") {
                children.push((
                    format!("function {name}(), variable '{variable}' of the function around it"),
                    value,
                ));
            }
        }
    }
    for (name_of, label) in [("__defaults__", "default"), ("__kwdefaults__", "default")] {
        let values = function.getattr(name_of)?;
        if !values.is_none() {
            children.push((format!("function {name}(), {label}"), values));
        }
    }
    if let Ok(globals) = function.getattr("__globals__")?.cast_into::<PyDict>() {
        for (global, value) in globals {
            children.push((format!("function {name}(), global '{global}'"), value));
        }
    }
    Ok((children, format!("function {name}()")))
}

/// A short form of a key.
fn short(key: &Bound<'_, PyAny>) -> String {
    let plain = is_plain(key);
    let text = if plain {
        key.repr()
            .map_or_else(|_| "?".to_owned(), |text| text.to_string())
    } else {
        key.get_type()
            .name()
            .map_or_else(|_| "?".to_owned(), |name| format!("a {name}"))
    };
    if text.chars().count() > 40 {
        text.chars().take(39).chain(['…']).collect()
    } else {
        text
    }
}
