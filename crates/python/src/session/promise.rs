//! The result of an operation in a `pipeline()` block, which can be used before it arrives.
//!
//! While it is under way, an operation whose result Python leaves open (attribute, item, call,
//! arithmetic, comparison) is sent to the peer, and gives another promise. One that Python needs the
//! answer of at once (truth, length, iteration, conversion, formatting, hashing) waits, and answers
//! as the value does. Once it has arrived every operation is one on the value, or raises its error.
//! In-place operators are refused: the promise itself cannot become the new value.

use std::sync::{Mutex, MutexGuard, PoisonError};

use objspace_proto::{Op, QuestionId};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyDict, PyIterator, PyString, PyTuple};

use super::perform::{self, Arguments};
use super::pipeline::{Pipeline, Target};

/// The result of an operation in a `with session.pipeline():` block: see `Session.pipeline`.
#[pyclass(frozen, module = "objspace.distributed", name = "Promise", weakref)]
pub(crate) struct Promise {
    pipeline: Py<Pipeline>,
    state: Mutex<State>,
    op: Op,
    name: Option<Py<PyString>>,
}

struct State {
    result: Result_,
    /// Promises that this one was made of, while it is under way.
    sources: Vec<Py<Promise>>,
    /// It failed because one of those did.
    derived: bool,
    /// Its error has been raised.
    seen: bool,
}

enum Result_ {
    Pending(QuestionId),
    Value(Py<PyAny>),
    Error(PyErr),
}

impl Promise {
    pub(crate) fn new(
        pipeline: &Bound<'_, Pipeline>,
        question: QuestionId,
        op: Op,
        name: Option<Py<PyString>>,
        sources: Vec<Py<Self>>,
    ) -> Self {
        Self {
            pipeline: pipeline.clone().unbind(),
            state: Mutex::new(State {
                result: Result_::Pending(question),
                sources,
                derived: false,
                seen: false,
            }),
            op,
            name,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pipeline(&self) -> &Py<Pipeline> {
        &self.pipeline
    }

    /// The question that it waits for, until it has arrived.
    pub(crate) fn question(&self) -> Option<QuestionId> {
        match self.state().result {
            Result_::Pending(question) => Some(question),
            _ => None,
        }
    }

    /// It has arrived.
    pub(crate) fn settle(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        let sources = std::mem::take(&mut self.state().sources);
        let derived = sources.iter().any(|source| source.get().failed());
        let result = match result {
            Ok(value) => Result_::Value(value.unbind()),
            Err(error) => Result_::Error(error),
        };
        let old = {
            let mut state = self.state();
            state.derived = derived;
            std::mem::replace(&mut state.result, result)
        };
        // Outside the lock, and attached: destructors run code.
        let _ = py;
        drop((old, sources));
    }

    fn failed(&self) -> bool {
        matches!(self.state().result, Result_::Error(_))
    }

    /// Its error, unless that was raised; and whether it comes of another promise's.
    pub(crate) fn unseen_error(&self, py: Python<'_>) -> Option<(PyErr, bool)> {
        let mut state = self.state();
        let derived = state.derived;
        match &state.result {
            Result_::Error(error) if !state.seen => {
                let error = error.clone_ref(py);
                state.seen = true;
                Some((error, derived))
            }
            _ => None,
        }
    }

    /// The value or the error, if it has arrived.
    pub(crate) fn arrived<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let mut state = self.state();
        match &state.result {
            Result_::Pending(_) => None,
            Result_::Value(value) => Some(Ok(value.bind(py).clone())),
            Result_::Error(error) => {
                let error = error.clone_ref(py);
                state.seen = true;
                Some(Err(error))
            }
        }
    }

    /// `RuntimeError` unless operations on it can be sent from here.
    pub(crate) fn check_here(this: &Bound<'_, Self>) -> PyResult<()> {
        let pipeline = this.get().pipeline.bind(this.py());
        if Pipeline::is_open_here(pipeline)? {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "{} is still under way, and its pipeline() block is not open here: wait for it where \
             the block is",
            this.get().describe()
        )))
    }

    fn describe(&self) -> String {
        let what = match (&self.name, self.op) {
            (Some(name), Op::CALL_METHOD) => format!("{name}()"),
            (Some(name), _) => format!(".{name}"),
            (None, Op::CALL) => "a call".to_owned(),
            (None, op) => op.name().unwrap_or("an operation").to_owned(),
        };
        format!("the promise of {what}")
    }
}

/// The value, waited for if need be.
pub(crate) fn value<'py>(this: &Bound<'py, Promise>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    if let Some(arrived) = this.get().arrived(py) {
        return arrived;
    }
    Promise::check_here(this)?;
    this.get().pipeline.get().collect(py, Some(this), true)?;
    this.get().arrived(py).unwrap_or_else(|| {
        Err(PyRuntimeError::new_err(
            "the promise is waited for already, by a call that this one is nested in",
        ))
    })
}

/// `object`, or what it is the promise of, if that has arrived.
fn unwrapped<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match object.cast::<Promise>() {
        Ok(promise) => promise
            .get()
            .arrived(object.py())
            .unwrap_or_else(|| Ok(object.clone())),
        Err(_) => Ok(object.clone()),
    }
}

/// An operation: sent if the promise is under way, else performed on the value.
fn operate<'py>(
    this: &Bound<'py, Promise>,
    op: Op,
    positional: &[Bound<'py, PyAny>],
    keywords: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let promise = this.get();
    if promise.question().is_some() {
        Promise::check_here(this)?;
        let pipeline = promise.pipeline.bind(py);
        pipeline.get().make_room(py)?;
        if promise.question().is_some() {
            return Pipeline::send(pipeline, &Target::Promise(this), op, positional, keywords)
                .map(Bound::into_any);
        }
    }
    let value = value(this)?;
    let positional = positional
        .iter()
        .map(unwrapped)
        .collect::<PyResult<Vec<_>>>()?;
    let named = if keywords.is_empty() {
        None
    } else {
        let named = PyDict::new(py);
        for (name, value) in keywords {
            named.set_item(name, value)?;
        }
        Some(named)
    };
    let arguments = Arguments {
        positional,
        keywords: named,
    };
    perform::apply_operator(&value, op, &arguments)
}

fn in_place() -> PyErr {
    PyTypeError::new_err(
        "a promise cannot be changed in place: write `p = p + x` for a new promise, or \
         `value = promise.value` first",
    )
}

fn is_dunder(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

#[pymethods]
impl Promise {
    /// What it is the promise of; waits for it if it is under way. Raises the error of the operation
    /// if that failed.
    #[getter(value)]
    fn get_value<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        value(this)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let what = self.describe();
        let result = match &self.state().result {
            Result_::Pending(_) => None,
            Result_::Value(value) => Some(value.clone_ref(py)),
            Result_::Error(error) => Some(error.value(py).clone().into_any().unbind()),
        };
        Ok(match result {
            None => format!("<{what}, under way>"),
            Some(result) => format!("<{what}: {}>", result.bind(py).repr()?),
        })
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        this: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let positional: Vec<_> = args.iter().collect();
        let mut keywords = Vec::new();
        if let Some(kwargs) = kwargs {
            for (name, value) in kwargs {
                keywords.push((name.cast_into::<PyString>()?, value));
            }
        }
        operate(this, Op::CALL, &positional, &keywords)
    }

    fn __getattr__<'py>(
        this: &Bound<'py, Self>,
        name: Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Python's own protocols ask whether there is such a name: they need to know.
        if is_dunder(&name.to_string_lossy()) {
            return value(this)?.getattr(name);
        }
        operate(this, Op::GETATTR, &[name.into_any()], &[])
    }
    fn __setattr__<'py>(
        this: &Bound<'py, Self>,
        name: Bound<'py, PyString>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<()> {
        operate(this, Op::SETATTR, &[name.into_any(), value], &[]).map(|_| ())
    }
    fn __delattr__<'py>(this: &Bound<'py, Self>, name: Bound<'py, PyString>) -> PyResult<()> {
        operate(this, Op::DELATTR, &[name.into_any()], &[]).map(|_| ())
    }
    fn __getitem__<'py>(
        this: &Bound<'py, Self>,
        key: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::GETITEM, &[key], &[])
    }
    fn __setitem__<'py>(
        this: &Bound<'py, Self>,
        key: Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<()> {
        operate(this, Op::SETITEM, &[key, value], &[]).map(|_| ())
    }
    fn __delitem__<'py>(this: &Bound<'py, Self>, key: Bound<'py, PyAny>) -> PyResult<()> {
        operate(this, Op::DELITEM, &[key], &[]).map(|_| ())
    }
    fn __richcmp__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
        how: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let op = match how {
            CompareOp::Lt => Op::LT,
            CompareOp::Le => Op::LE,
            CompareOp::Eq => Op::EQ,
            CompareOp::Ne => Op::NE,
            CompareOp::Gt => Op::GT,
            CompareOp::Ge => Op::GE,
        };
        operate(this, op, &[other], &[])
    }

    // What Python needs the answer of at once.

    fn __bool__(this: &Bound<'_, Self>) -> PyResult<bool> {
        value(this)?.is_truthy()
    }
    fn __len__(this: &Bound<'_, Self>) -> PyResult<usize> {
        value(this)?.len()
    }
    fn __contains__(this: &Bound<'_, Self>, item: Bound<'_, PyAny>) -> PyResult<bool> {
        value(this)?.contains(unwrapped(&item)?)
    }
    fn __iter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyIterator>> {
        value(this)?.try_iter()
    }
    fn __hash__(this: &Bound<'_, Self>) -> PyResult<isize> {
        value(this)?.hash()
    }
    fn __int__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        builtin(this, "int")
    }
    fn __float__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        builtin(this, "float")
    }
    fn __complex__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        builtin(this, "complex")
    }
    fn __index__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        py.import("operator")?
            .call_method1("index", (value(this)?,))
    }
    fn __str__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        value(this)?.str()
    }
    fn __bytes__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        builtin(this, "bytes")
    }
    fn __format__<'py>(
        this: &Bound<'py, Self>,
        spec: Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        value(this)?.call_method1("__format__", (spec,))
    }
    fn __reversed__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        builtin(this, "reversed")
    }
    #[pyo3(signature = (*digits))]
    fn __round__<'py>(
        this: &Bound<'py, Self>,
        digits: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        value(this)?.call_method1("__round__", digits)
    }

    fn __neg__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::NEG, &[], &[])
    }
    fn __pos__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::POS, &[], &[])
    }
    fn __abs__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::ABS, &[], &[])
    }
    fn __invert__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::INVERT, &[], &[])
    }
    fn __pow__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
        modulus: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match modulus {
            None => operate(this, Op::POW, &[other], &[]),
            Some(modulus) => this
                .py()
                .import("builtins")?
                .call_method1("pow", (value(this)?, other, modulus)),
        }
    }
    fn __rpow__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
        _modulus: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RPOW, &[other], &[])
    }
    fn __ipow__(
        &self,
        _other: &Bound<'_, PyAny>,
        _modulus: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Err(in_place())
    }
    fn __add__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::ADD, &[other], &[])
    }
    fn __radd__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RADD, &[other], &[])
    }
    fn __sub__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::SUB, &[other], &[])
    }
    fn __rsub__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RSUB, &[other], &[])
    }
    fn __mul__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::MUL, &[other], &[])
    }
    fn __rmul__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RMUL, &[other], &[])
    }
    fn __matmul__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::MATMUL, &[other], &[])
    }
    fn __rmatmul__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RMATMUL, &[other], &[])
    }
    fn __truediv__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::TRUEDIV, &[other], &[])
    }
    fn __rtruediv__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RTRUEDIV, &[other], &[])
    }
    fn __floordiv__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::FLOORDIV, &[other], &[])
    }
    fn __rfloordiv__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RFLOORDIV, &[other], &[])
    }
    fn __mod__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::MOD, &[other], &[])
    }
    fn __rmod__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RMOD, &[other], &[])
    }
    fn __divmod__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::DIVMOD, &[other], &[])
    }
    fn __rdivmod__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RDIVMOD, &[other], &[])
    }
    fn __lshift__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::LSHIFT, &[other], &[])
    }
    fn __rlshift__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RLSHIFT, &[other], &[])
    }
    fn __rshift__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RSHIFT, &[other], &[])
    }
    fn __rrshift__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RRSHIFT, &[other], &[])
    }
    fn __and__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::AND, &[other], &[])
    }
    fn __rand__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RAND, &[other], &[])
    }
    fn __xor__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::XOR, &[other], &[])
    }
    fn __rxor__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::RXOR, &[other], &[])
    }
    fn __or__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::OR, &[other], &[])
    }
    fn __ror__<'py>(
        this: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        operate(this, Op::ROR, &[other], &[])
    }
    fn __iadd__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __isub__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __imul__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __imatmul__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __itruediv__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __ifloordiv__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __imod__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __ilshift__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __irshift__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __iand__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __ixor__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
    fn __ior__(&self, _other: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(in_place())
    }
}

/// A builtin function of the value.
fn builtin<'py>(this: &Bound<'py, Promise>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    this.py()
        .import("builtins")?
        .call_method1(name, (value(this)?,))
}
