//! Deep copies: a whole web of containers in one message, with its cycles and its sharing.
//!
//! A copy is a flat list of *nodes*: containers, and instances of declared classes. A node holds
//! *slots*: a value that is copied anyway, or the number of another node. So nothing nests, however
//! deep the data is, and what is shared or cyclic stays so. It is collected first, so that what cannot
//! be copied is found, with the path to it, before anything is written.
//!
//! The reader makes all mutable containers empty, then the immutable ones, then fills. Containers that
//! hash their items come last, so that an instance has its attributes when it is hashed.

use std::collections::HashMap;

use pyo3::exceptions::{PyPermissionError, PyRecursionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFrozenSet, PyList, PySet, PySlice, PyString, PyTuple, PyType,
};

use super::{declared, named, types};
use crate::proxy;
use crate::remote::class::statics;
use crate::session::connection::Connection;

/// What a node is, as it travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Code {
    List,
    Tuple,
    Set,
    Frozenset,
    Dict,
    Bytearray,
    /// `maxlen`, then the items.
    Deque,
    /// Pairs, as of a dict.
    Ordered,
    /// The factory, then pairs.
    Default,
    Counter,
    /// Pairs of a name and a value.
    Namespace,
    /// The type code, then the items.
    Array,
    /// Module, qualified name, the value of the base, then pairs of a name and a value.
    Instance,
}

const CODES: &[Code] = &[
    Code::List,
    Code::Tuple,
    Code::Set,
    Code::Frozenset,
    Code::Dict,
    Code::Bytearray,
    Code::Deque,
    Code::Ordered,
    Code::Default,
    Code::Counter,
    Code::Namespace,
    Code::Array,
    Code::Instance,
];

impl Code {
    fn number(self) -> usize {
        CODES.iter().position(|code| *code == self).unwrap_or(0)
    }

    /// How many slots stand before the items, the pairs or the attributes.
    fn head(self) -> usize {
        match self {
            Self::Deque | Self::Default | Self::Array => 1,
            Self::Instance => 3,
            _ => 0,
        }
    }

    fn in_pairs(self) -> bool {
        matches!(
            self,
            Self::Dict
                | Self::Ordered
                | Self::Default
                | Self::Counter
                | Self::Namespace
                | Self::Instance
        )
    }
}

/// A part of a node.
pub(crate) enum Slot<'py> {
    Value(Bound<'py, PyAny>),
    Node(usize),
}

pub(crate) struct Node<'py> {
    code: Code,
    pub(crate) slots: Vec<Slot<'py>>,
}

impl Node<'_> {
    pub(crate) fn number(&self) -> usize {
        self.code.number()
    }

    /// How the path goes on to the slot `index`.
    fn step(&self, index: usize) -> String {
        let Some(item) = index.checked_sub(self.code.head()) else {
            return String::new();
        };
        let shown = |index: usize| match self.slots.get(index) {
            Some(Slot::Value(value)) => value
                .repr()
                .map_or_else(|_| "…".into(), |text| text.to_string()),
            _ => "…".into(),
        };
        match self.code {
            Code::Namespace | Code::Instance => match self.slots.get(index.saturating_sub(1)) {
                Some(Slot::Value(name)) if item % 2 == 1 => format!(".{name}"),
                _ => String::new(),
            },
            code if code.in_pairs() && item % 2 == 1 => format!("[{}]", shown(index - 1)),
            code if code.in_pairs() => " (a key)".into(),
            Code::Set | Code::Frozenset => " (an element)".into(),
            _ => format!("[{item}]"),
        }
    }
}

/// Whether what is no container of this codec stays a reference, instead of being an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Refused,
    Referred,
}

/// How many steps of a path are shown.
const STEPS: usize = 12;

/// The way from the root to a node: (node before it, slot in that node).
fn path(
    nodes: &[Node<'_>],
    origins: &[(usize, usize)],
    mut at: usize,
    last: Option<usize>,
) -> String {
    let mut steps = Vec::new();
    if let (Some(slot), Some(node)) = (last, nodes.get(at)) {
        steps.push(node.step(slot));
    }
    while at != 0 {
        let Some((before, slot)) = origins.get(at).copied() else {
            break;
        };
        if let Some(node) = nodes.get(before) {
            steps.push(node.step(slot));
        }
        at = before;
        if steps.len() > STEPS {
            steps.push("…".into());
            break;
        }
    }
    steps.reverse();
    format!("p{}", steps.concat())
}

// ------------------------------------------------------------------ taking apart

struct Collector<'c, 'py> {
    connection: &'c Connection,
    rest: Rest,
    objects: Vec<Bound<'py, PyAny>>,
    known: HashMap<usize, usize>,
    nodes: Vec<Node<'py>>,
    origins: Vec<(usize, usize)>,
}

/// The nodes of everything that can be reached from `root`, which is the first.
pub(crate) fn collect<'py>(
    connection: &Connection,
    root: &Bound<'py, PyAny>,
    rest: Rest,
) -> PyResult<Vec<Node<'py>>> {
    let mut collector = Collector {
        connection,
        rest,
        objects: Vec::new(),
        known: HashMap::new(),
        nodes: Vec::new(),
        origins: Vec::new(),
    };
    collector.enter(root, (0, 0));
    let mut next = 0;
    while let Some(object) = collector.objects.get(next).cloned() {
        collector.take_apart(next, &object)?;
        next += 1;
    }
    Ok(collector.nodes)
}

impl<'py> Collector<'_, 'py> {
    fn enter(&mut self, object: &Bound<'py, PyAny>, origin: (usize, usize)) -> usize {
        let next = self.objects.len();
        let index = *self.known.entry(object.as_ptr() as usize).or_insert(next);
        if index == next {
            self.objects.push(object.clone());
            self.origins.push(origin);
        }
        index
    }

    /// Makes the node of an object, all of whose slots are atoms or entered.
    fn take_apart(&mut self, at: usize, object: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = object.py();
        let class = statics::true_type(object);
        let Some(code) = code_of(&class)? else {
            return self.instance(at, object, &class);
        };
        let mut parts: Vec<Bound<'py, PyAny>> = Vec::new();
        match code {
            Code::List | Code::Tuple | Code::Set | Code::Frozenset => {
                parts.extend(object.try_iter()?.collect::<PyResult<Vec<_>>>()?);
            }
            Code::Bytearray => {
                let bytes = object.cast::<PyByteArray>()?.to_vec();
                parts.push(PyBytes::new(py, &bytes).into_any());
            }
            Code::Deque => {
                parts.push(object.getattr("maxlen")?);
                parts.extend(object.try_iter()?.collect::<PyResult<Vec<_>>>()?);
            }
            Code::Array => {
                parts.push(object.getattr("typecode")?);
                parts.extend(object.try_iter()?.collect::<PyResult<Vec<_>>>()?);
            }
            Code::Dict | Code::Ordered | Code::Default | Code::Counter => {
                if code == Code::Default {
                    parts.push(object.getattr("default_factory")?);
                }
                for pair in object.call_method0("items")?.try_iter()? {
                    let (key, value) = pair?.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
                    parts.extend([key, value]);
                }
            }
            Code::Namespace => {
                for (name, value) in &object.getattr("__dict__")?.cast_into::<PyDict>()? {
                    parts.extend([name, value]);
                }
            }
            Code::Instance => {}
        }
        self.push(at, code, parts)
    }

    fn push(&mut self, at: usize, code: Code, parts: Vec<Bound<'py, PyAny>>) -> PyResult<()> {
        let mut slots = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            if is_atom(&part)? || self.stays(&part)? {
                slots.push(Slot::Value(part));
            } else {
                let node = self.enter(&part, (at, index));
                slots.push(Slot::Node(node));
            }
        }
        self.nodes.push(Node { code, slots });
        Ok(())
    }

    /// Whether a part stays a reference.
    fn stays(&self, part: &Bound<'py, PyAny>) -> PyResult<bool> {
        // An object of the receiver comes home.
        if let Some(found) = proxy::as_proxy(part)
            && crate::remote::controller::remote_of(&found, part.py())?
                .is_some_and(|remote| std::ptr::eq(&**remote.get().connection(), self.connection))
        {
            return Ok(true);
        }
        Ok(self.rest == Rest::Referred && code_of(&statics::true_type(part))?.is_none())
    }

    fn instance(
        &mut self,
        at: usize,
        object: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> PyResult<()> {
        let py = object.py();
        let refused = |reason: &str| {
            let name = class
                .name()
                .map_or_else(|_| "?".into(), |name| name.to_string());
            let at = match self.origins.get(at) {
                Some((before, slot)) if at != 0 => {
                    path(&self.nodes, &self.origins, *before, Some(*slot))
                }
                _ => "p".into(),
            };
            format!("cannot copy {at}, a '{name}' object: {reason}")
        };
        let is_class = object.is_instance_of::<PyType>();
        let described = !is_class
            && proxy::as_proxy(object).is_none()
            && types::rule_of(class)? == types::Rule::Described;
        if !described {
            let reason = "it is neither a container nor a value, and stays where it lives";
            return Err(PyTypeError::new_err(refused(reason)));
        }
        if !self.connection.policy().is_full()
            && !self.connection.declared().sends_by_value(class)?
        {
            let reason = "the policy of the other side lets only classes be copied that it declared \
                          with by_value";
            return Err(PyPermissionError::new_err(refused(reason)));
        }
        let state = declared::state(object, class)
            .map_err(|error| PyTypeError::new_err(refused(&error.value(py).to_string())))?;
        let (module, qualname) = declared::name_of(class)?;
        let mut parts = vec![
            PyString::new(py, &module).into_any(),
            PyString::new(py, &qualname).into_any(),
            state.value,
        ];
        for (name, value) in state.attributes {
            parts.extend([name.into_any(), value]);
        }
        self.push(at, Code::Instance, parts)
    }
}

/// The containers that are copied by this codec: of exactly these types.
fn code_of(class: &Bound<'_, PyType>) -> PyResult<Option<Code>> {
    let py = class.py();
    let exact = [
        (py.get_type::<PyList>(), Code::List),
        (py.get_type::<PyTuple>(), Code::Tuple),
        (py.get_type::<PyDict>(), Code::Dict),
        (py.get_type::<PySet>(), Code::Set),
        (py.get_type::<PyFrozenSet>(), Code::Frozenset),
        (py.get_type::<PyByteArray>(), Code::Bytearray),
    ];
    if let Some((_, code)) = exact.iter().find(|(known, _)| known.is(class)) {
        return Ok(Some(*code));
    }
    let library = [
        ("collections", "deque", Code::Deque),
        ("collections", "OrderedDict", Code::Ordered),
        ("collections", "defaultdict", Code::Default),
        ("collections", "Counter", Code::Counter),
        ("types", "SimpleNamespace", Code::Namespace),
        ("array", "array", Code::Array),
    ];
    let name = class.name()?;
    for (module, known, code) in library {
        if name.to_str().is_ok_and(|name| name == known)
            && py.import(module)?.getattr(known)?.is(class)
        {
            return Ok(Some(code));
        }
    }
    Ok(None)
}

/// Whether a value is copied whatever happens, and holds nothing that is not.
fn is_atom(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if crate::remote::plain::is_plain(value) && value.cast_exact::<PyTuple>().is_err() {
        return Ok(true);
    }
    if proxy::as_proxy(value).is_some() {
        return Ok(false);
    }
    if value.cast_exact::<PySlice>().is_ok() {
        for part in ["start", "stop", "step"] {
            if !is_atom(&value.getattr(part)?)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let class = statics::true_type(value);
    Ok(class.is(value.py().get_type::<pyo3::types::PyRange>())
        || matches!(types::rule_of(&class)?, types::Rule::Value(_))
        || named::name_of(value)?.is_some())
}

// ------------------------------------------------------------------ putting together

/// Makes a node from what was read.
pub(crate) fn node<'py>(code: usize, slots: Vec<Slot<'py>>) -> PyResult<Node<'py>> {
    let code = *CODES
        .get(code)
        .ok_or_else(|| broken("an unknown kind of container"))?;
    if slots.len() < code.head()
        || code.in_pairs() && !(slots.len() - code.head()).is_multiple_of(2)
    {
        return Err(broken("a container that is cut off"));
    }
    Ok(Node { code, slots })
}

fn broken(what: &str) -> PyErr {
    crate::session::errors::ProtocolError::new_err(format!("the other side sent {what}"))
}

/// How deep immutable containers may hold each other.
const DEPTH: usize = 500;

struct Builder<'c, 'py> {
    connection: &'c Connection,
    nodes: Vec<Node<'py>>,
    made: Vec<Option<Bound<'py, PyAny>>>,
    filled: Vec<bool>,
}

/// The object that the first node describes.
pub(crate) fn build<'py>(
    py: Python<'py>,
    connection: &Connection,
    nodes: Vec<Node<'py>>,
) -> PyResult<Bound<'py, PyAny>> {
    let count = nodes.len();
    for node in &nodes {
        if node
            .slots
            .iter()
            .any(|slot| matches!(slot, Slot::Node(index) if *index >= count))
        {
            return Err(broken("a copy that refers to what is not there"));
        }
    }
    let mut builder = Builder {
        connection,
        nodes,
        made: vec![None; count],
        filled: vec![false; count],
    };
    for at in 0..count {
        builder.shell(py, at)?;
    }
    for at in 0..count {
        builder.make(py, at, 0)?;
    }
    for hashing in [false, true] {
        for at in 0..count {
            if builder.hashes(at) == hashing {
                builder.fill(py, at, 0)?;
            }
        }
    }
    match builder.made.into_iter().next().flatten() {
        Some(root) => Ok(root),
        None => Err(broken("a copy of nothing")),
    }
}

impl<'py> Builder<'_, 'py> {
    fn code(&self, at: usize) -> Code {
        self.nodes.get(at).map_or(Code::List, |node| node.code)
    }

    fn hashes(&self, at: usize) -> bool {
        matches!(
            self.code(at),
            Code::Dict | Code::Ordered | Code::Default | Code::Counter | Code::Set
        )
    }

    /// An empty container, for those that are filled afterwards.
    fn shell(&mut self, py: Python<'py>, at: usize) -> PyResult<()> {
        let first = match self.nodes.get(at).and_then(|node| node.slots.first()) {
            Some(Slot::Value(value)) => Some(value.clone()),
            _ => None,
        };
        let collections = |name: &str| py.import("collections").and_then(|m| m.getattr(name));
        let made = match self.code(at) {
            Code::List => PyList::empty(py).into_any(),
            Code::Dict => PyDict::new(py).into_any(),
            Code::Set => PySet::empty(py)?.into_any(),
            Code::Bytearray => {
                let bytes = first.ok_or_else(|| broken("bytes that are none"))?;
                PyByteArray::new(py, bytes.cast::<PyBytes>()?.as_bytes()).into_any()
            }
            Code::Deque => collections("deque")?.call1((PyTuple::empty(py), first))?,
            Code::Ordered => collections("OrderedDict")?.call0()?,
            Code::Default => collections("defaultdict")?.call1((first,))?,
            Code::Counter => collections("Counter")?.call0()?,
            Code::Namespace => py.import("types")?.getattr("SimpleNamespace")?.call0()?,
            Code::Array => {
                let code = first.ok_or_else(|| broken("an array without a type"))?;
                py.import("array")?.getattr("array")?.call1((code,))?
            }
            Code::Tuple | Code::Frozenset | Code::Instance => return Ok(()),
        };
        self.set(at, made);
        Ok(())
    }

    fn set(&mut self, at: usize, made: Bound<'py, PyAny>) {
        if let Some(place) = self.made.get_mut(at) {
            *place = Some(made);
        }
    }

    fn is_made(&self, at: usize) -> bool {
        self.made.get(at).is_some_and(Option::is_some)
    }

    /// The nodes among the slots from `from` on.
    fn children(&self, at: usize, from: usize, to: usize) -> Vec<usize> {
        let Some(node) = self.nodes.get(at) else {
            return Vec::new();
        };
        node.slots
            .iter()
            .take(to)
            .skip(from)
            .filter_map(|slot| match slot {
                Slot::Node(index) => Some(*index),
                Slot::Value(_) => None,
            })
            .collect()
    }

    fn parts(&self, at: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let slots = self.nodes.get(at).map_or(&[][..], |node| &node.slots);
        slots
            .iter()
            .map(|slot| match slot {
                Slot::Value(value) => Ok(value.clone()),
                Slot::Node(index) => self
                    .made
                    .get(*index)
                    .and_then(Clone::clone)
                    .ok_or_else(|| broken("immutable containers that hold each other")),
            })
            .collect()
    }

    /// Makes a tuple, a frozenset or an instance, and before it what it is made of.
    fn make(&mut self, py: Python<'py>, at: usize, depth: usize) -> PyResult<()> {
        if self.is_made(at) {
            return Ok(());
        }
        if depth > DEPTH {
            return Err(PyRecursionError::new_err(format!(
                "tuples, frozensets and values of instances may hold each other {DEPTH} deep in a copy"
            )));
        }
        let code = self.code(at);
        // Of an instance only the value of its base must be there.
        let to = if code == Code::Instance {
            3
        } else {
            usize::MAX
        };
        for child in self.children(at, 0, to) {
            self.make(py, child, depth + 1)?;
            if code == Code::Frozenset {
                self.fill(py, child, depth + 1)?;
            }
        }
        let made = match code {
            Code::Tuple => PyTuple::new(py, self.parts(at)?)?.into_any(),
            Code::Frozenset => PyFrozenSet::new(py, self.parts(at)?)?.into_any(),
            _ => {
                let class = self.class(py, at)?;
                let value = self.nodes.get(at).and_then(|node| node.slots.get(2));
                let value = match value {
                    Some(Slot::Value(value)) => value.clone(),
                    Some(Slot::Node(index)) => self
                        .made
                        .get(*index)
                        .and_then(Clone::clone)
                        .ok_or_else(|| broken("an instance that is its own value"))?,
                    None => py.None().into_bound(py),
                };
                declared::make(&class, &value)?
            }
        };
        self.set(at, made);
        Ok(())
    }

    /// The class of an instance: one that is declared here.
    fn class(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyType>> {
        let text = |index: usize| match self.nodes.get(at).and_then(|node| node.slots.get(index)) {
            Some(Slot::Value(text)) => text.extract::<String>(),
            _ => Err(broken("an instance without a class")),
        };
        let (module, qualname) = (text(0)?, text(1)?);
        match self.connection.declared().named(py, &module, &qualname) {
            Some(found) => Ok(found.class),
            None => {
                let mut origins = vec![(0, 0); self.nodes.len()];
                for (before, node) in self.nodes.iter().enumerate().rev() {
                    for (slot, part) in node.slots.iter().enumerate().rev() {
                        if let Slot::Node(index) = part
                            && let Some(origin) = origins.get_mut(*index)
                        {
                            *origin = (before, slot);
                        }
                    }
                }
                Err(PyTypeError::new_err(format!(
                    "cannot copy {}, a '{qualname}' object: this process has not declared a class \
                     {module}.{qualname}, with session.adopt(…) or by_value(…)",
                    path(&self.nodes, &origins, at, None),
                )))
            }
        }
    }

    fn fill(&mut self, py: Python<'py>, at: usize, depth: usize) -> PyResult<()> {
        if self.filled.get(at).copied().unwrap_or(true) {
            return Ok(());
        }
        if let Some(filled) = self.filled.get_mut(at) {
            *filled = true;
        }
        if depth > DEPTH {
            return Err(PyRecursionError::new_err(
                "keys and elements of a copy hold each other too deep",
            ));
        }
        let code = self.code(at);
        // Whatever is hashed must be complete.
        if self.hashes(at) || matches!(code, Code::Tuple) {
            for child in self.children(at, 0, usize::MAX) {
                if matches!(
                    self.code(child),
                    Code::Instance | Code::Tuple | Code::Frozenset
                ) {
                    self.fill(py, child, depth + 1)?;
                }
            }
        }
        let Some(object) = self.made.get(at).and_then(Clone::clone) else {
            return Err(broken("a copy of nothing"));
        };
        let parts = self.parts(at)?;
        let rest = parts.get(code.head()..).unwrap_or_default();
        match code {
            Code::List | Code::Deque | Code::Array => {
                object.call_method1("extend", (PyTuple::new(py, rest)?,))?;
            }
            Code::Set => {
                object.call_method1("update", (PyTuple::new(py, rest)?,))?;
            }
            Code::Dict | Code::Ordered | Code::Default | Code::Counter => {
                for pair in rest.chunks_exact(2) {
                    if let [key, value] = pair {
                        object.set_item(key, value)?;
                    }
                }
            }
            Code::Namespace => {
                for pair in rest.chunks_exact(2) {
                    if let [name, value] = pair {
                        object.setattr(name.cast::<PyString>()?, value)?;
                    }
                }
            }
            Code::Instance => {
                let attributes = rest
                    .chunks_exact(2)
                    .filter_map(|pair| match pair {
                        [name, value] => Some((name, value)),
                        _ => None,
                    })
                    .map(|(name, value)| Ok((name.cast::<PyString>()?.clone(), value.clone())))
                    .collect::<PyResult<Vec<_>>>()?;
                let class = self.class(py, at)?;
                let value = parts
                    .get(2)
                    .cloned()
                    .unwrap_or_else(|| py.None().into_bound(py));
                declared::fill(&object, &class, &value, &attributes)?;
            }
            Code::Tuple | Code::Frozenset | Code::Bytearray => {}
        }
        Ok(())
    }
}
