//! Reads pickles that consist of the instructions in [`opcode`](super::opcode) alone.
//!
//! The whole payload is looked through first ([`is_known`]), so that a pickle is either read here from
//! beginning to end, or not begun. What the instructions do is what CPython's unpickler does, on a stack
//! of its own; nothing here nests. Names are looked up under the rule of `allow=`.

use std::ffi::{c_char, c_int};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::opcode::*;
use crate::pickling::{allow, errors, maker};

unsafe extern "C" {
    /// Public, but not declared by `pyo3-ffi`.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// Reads a payload. `None`: it has instructions that are not known here, and nothing was done.
pub(crate) fn read<'py>(py: Python<'py>, payload: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(instructions) = instructions(payload).filter(|&instructions| is_known(instructions))
    else {
        return Ok(None);
    };
    let reader = Reader {
        py,
        bytes: Bytes(instructions),
        stack: Vec::with_capacity(32),
        marks: Vec::new(),
        memo: Vec::with_capacity(32),
    };
    reader.run().map(Some)
}

/// What is in the one frame of a pickle of protocol 5.
fn instructions(payload: &[u8]) -> Option<&[u8]> {
    let rest = payload.strip_prefix(&[PROTO, 5, FRAME])?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*length) == rest.len() as u64).then_some(rest)
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Bytes with their length in one byte before them.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// Bytes with their length in four bytes before them.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }

    /// Bytes with their length in eight bytes before them.
    fn very_long(&mut self) -> Option<&'a [u8]> {
        let length = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).ok()?)
    }
}

/// Whether all instructions are known, and the first `STOP` is the end.
fn is_known(instructions: &[u8]) -> bool {
    let mut bytes = Bytes(instructions);
    loop {
        let argument = match bytes.byte() {
            Some(STOP) => return bytes.0.is_empty(),
            Some(
                NONE | NEWTRUE | NEWFALSE | MARK | POP | POP_MARK | EMPTY_TUPLE | TUPLE1 | TUPLE2
                | TUPLE3 | TUPLE | EMPTY_LIST | APPEND | APPENDS | EMPTY_DICT | SETITEM | SETITEMS
                | EMPTY_SET | ADDITEMS | FROZENSET | MEMOIZE | STACK_GLOBAL | REDUCE | BUILD,
            ) => Some(&[][..]),
            Some(BININT1 | BINGET) => bytes.take(1),
            Some(BININT2) => bytes.take(2),
            Some(BININT | LONG_BINGET) => bytes.take(4),
            Some(BINFLOAT) => bytes.take(8),
            Some(LONG1) => bytes.short().filter(|digits| digits.len() <= 8),
            Some(SHORT_BINUNICODE | SHORT_BINBYTES) => bytes.short(),
            Some(BINUNICODE | BINBYTES) => bytes.long(),
            Some(BYTEARRAY8) => bytes.very_long(),
            _ => None,
        };
        if argument.is_none() {
            return false;
        }
    }
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    bytes: Bytes<'a>,
    stack: Vec<Bound<'py, PyAny>>,
    /// Where marks lie between the values of the stack.
    marks: Vec<usize>,
    memo: Vec<Bound<'py, PyAny>>,
}

#[cold]
fn damaged() -> PyErr {
    errors::unpickling("the pickle is damaged: its instructions do not fit together")
}

/// What an instruction has, which `is_known` has seen to be there.
fn there<T>(argument: Option<T>) -> PyResult<T> {
    argument.ok_or_else(damaged)
}

impl<'py> Reader<'_, 'py> {
    fn push(&mut self, object: Bound<'py, PyAny>) {
        self.stack.push(object);
    }

    /// The value on top; not one below a mark.
    fn pop(&mut self) -> PyResult<Bound<'py, PyAny>> {
        if self
            .marks
            .last()
            .is_some_and(|&mark| mark >= self.stack.len())
        {
            return Err(damaged());
        }
        self.stack.pop().ok_or_else(damaged)
    }

    fn top(&self) -> PyResult<&Bound<'py, PyAny>> {
        if self
            .marks
            .last()
            .is_some_and(|&mark| mark >= self.stack.len())
        {
            return Err(damaged());
        }
        self.stack.last().ok_or_else(damaged)
    }

    /// The values behind the last mark, which goes away.
    fn marked(&mut self) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mark = self.marks.pop().ok_or_else(damaged)?;
        if mark > self.stack.len() {
            return Err(damaged());
        }
        Ok(self.stack.split_off(mark))
    }

    /// Makes a tuple of the last values.
    fn tuple(&mut self, count: usize) -> PyResult<()> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).ok_or_else(damaged)?;
        if from < floor {
            return Err(damaged());
        }
        let tuple = PyTuple::new(self.py, self.stack.drain(from..))?;
        self.push(tuple.into_any());
        Ok(())
    }

    fn run(mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        loop {
            match there(self.bytes.byte())? {
                STOP => return self.pop(),
                NONE => self.push(py.None().into_bound(py)),
                NEWTRUE => self.push(true.into_pyobject(py)?.to_owned().into_any()),
                NEWFALSE => self.push(false.into_pyobject(py)?.to_owned().into_any()),
                BININT1 => {
                    let value = there(self.bytes.byte())?;
                    self.push(value.into_pyobject(py)?.into_any());
                }
                BININT2 => {
                    let value = u16::from_le_bytes(there(self.bytes.array())?);
                    self.push(value.into_pyobject(py)?.into_any());
                }
                BININT => {
                    let value = i32::from_le_bytes(there(self.bytes.array())?);
                    self.push(value.into_pyobject(py)?.into_any());
                }
                LONG1 => {
                    let value = long(there(self.bytes.short())?);
                    self.push(PyInt::new(py, value).into_any());
                }
                BINFLOAT => {
                    let value = f64::from_be_bytes(there(self.bytes.array())?);
                    self.push(PyFloat::new(py, value).into_any());
                }
                SHORT_BINUNICODE => {
                    let text = there(self.bytes.short())?;
                    self.push(self::text(py, text)?);
                }
                BINUNICODE => {
                    let text = there(self.bytes.long())?;
                    self.push(self::text(py, text)?);
                }
                SHORT_BINBYTES => {
                    let bytes = there(self.bytes.short())?;
                    self.push(PyBytes::new(py, bytes).into_any());
                }
                BINBYTES => {
                    let bytes = there(self.bytes.long())?;
                    self.push(PyBytes::new(py, bytes).into_any());
                }
                BYTEARRAY8 => {
                    let bytes = there(self.bytes.very_long())?;
                    self.push(PyByteArray::new(py, bytes).into_any());
                }
                MARK => self.marks.push(self.stack.len()),
                POP => {
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        let gone = self.pop()?;
                        drop(gone);
                    }
                }
                POP_MARK => {
                    let gone = self.marked()?;
                    drop(gone);
                }
                EMPTY_TUPLE => self.push(PyTuple::empty(py).into_any()),
                TUPLE1 => self.tuple(1)?,
                TUPLE2 => self.tuple(2)?,
                TUPLE3 => self.tuple(3)?,
                TUPLE => {
                    let items = self.marked()?;
                    self.push(PyTuple::new(py, items)?.into_any());
                }
                EMPTY_LIST => self.push(PyList::empty(py).into_any()),
                APPEND => {
                    let item = self.pop()?;
                    append(self.top()?, vec![item])?;
                }
                APPENDS => {
                    let items = self.marked()?;
                    append(self.top()?, items)?;
                }
                EMPTY_DICT => self.push(PyDict::new(py).into_any()),
                SETITEM => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    set_items(self.top()?, &[key, value])?;
                }
                SETITEMS => {
                    let items = self.marked()?;
                    set_items(self.top()?, &items)?;
                }
                EMPTY_SET => self.push(PySet::empty(py)?.into_any()),
                ADDITEMS => {
                    let items = self.marked()?;
                    add_items(self.top()?, &items)?;
                }
                FROZENSET => {
                    let items = self.marked()?;
                    self.push(PyFrozenSet::new(py, items)?.into_any());
                }
                MEMOIZE => {
                    let object = self.top()?.clone();
                    self.memo.push(object);
                }
                BINGET => {
                    let number = there(self.bytes.byte())?;
                    self.get(number.into())?;
                }
                LONG_BINGET => {
                    let number = u32::from_le_bytes(there(self.bytes.array())?);
                    self.get(number as usize)?;
                }
                STACK_GLOBAL => {
                    let name = self.pop()?;
                    let module = self.pop()?;
                    let (Ok(module), Ok(name)) = (
                        module.cast_exact::<PyString>(),
                        name.cast_exact::<PyString>(),
                    ) else {
                        return Err(errors::unpickling("STACK_GLOBAL requires str"));
                    };
                    self.push(find(module, name)?);
                }
                REDUCE => {
                    let arguments = self.pop()?;
                    let function = self.pop()?;
                    let arguments = arguments.cast_exact::<PyTuple>().map_err(|_| damaged())?;
                    let made = function.call1(arguments)?;
                    self.push(made);
                }
                BUILD => {
                    let state = self.pop()?;
                    build(self.top()?, state)?;
                }
                _ => return Err(damaged()),
            }
        }
    }

    fn get(&mut self, number: usize) -> PyResult<()> {
        let object = self.memo.get(number).ok_or_else(damaged)?.clone();
        self.push(object);
        Ok(())
    }
}

/// A number of up to eight bytes, the lowest first, with its sign in the last.
fn long(digits: &[u8]) -> i64 {
    let negative = digits.last().is_some_and(|last| last & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    bytes[..digits.len()].copy_from_slice(digits);
    i64::from_le_bytes(bytes)
}

fn text<'py>(py: Python<'py>, utf8: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; so many bytes are there. The result is a new reference, or null with an exception.
    unsafe {
        let (start, length) = (utf8.as_ptr().cast(), utf8.len().cast_signed());
        let errors = c"surrogatepass".as_ptr();
        Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_DecodeUTF8(start, length, errors))
    }
}

fn append<'py>(list: &Bound<'py, PyAny>, items: Vec<Bound<'py, PyAny>>) -> PyResult<()> {
    let py = list.py();
    if let Ok(list) = list.cast_exact::<PyList>() {
        for item in items {
            list.append(item)?;
        }
        return Ok(());
    }
    if let Some(extend) = list.getattr_opt(intern!(py, "extend"))? {
        extend.call1((PyList::new(py, items)?,))?;
        return Ok(());
    }
    let append = list.getattr(intern!(py, "append"))?;
    for item in items {
        append.call1((item,))?;
    }
    Ok(())
}

/// Keys and values in turn.
fn set_items<'py>(dict: &Bound<'py, PyAny>, items: &[Bound<'py, PyAny>]) -> PyResult<()> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(errors::unpickling("odd number of items for SETITEMS"));
    }
    for [key, value] in pairs {
        match dict.cast_exact::<PyDict>() {
            Ok(dict) => dict.set_item(key, value)?,
            Err(_) => dict.set_item(key, value)?,
        }
    }
    Ok(())
}

fn add_items<'py>(set: &Bound<'py, PyAny>, items: &[Bound<'py, PyAny>]) -> PyResult<()> {
    if let Ok(set) = set.cast::<PySet>() {
        return items.iter().try_for_each(|item| set.add(item));
    }
    let add = set.getattr(intern!(set.py(), "add"))?;
    for item in items {
        add.call1((item,))?;
    }
    Ok(())
}

/// Gives an object its state, as pickle does it.
fn build<'py>(object: &Bound<'py, PyAny>, state: Bound<'py, PyAny>) -> PyResult<()> {
    let py = object.py();
    if let Some(set_state) = object.getattr_opt(intern!(py, "__setstate__"))? {
        set_state.call1((state,))?;
        return Ok(());
    }
    let (state, slots) = match state.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
        _ => (state, py.None().into_bound(py)),
    };
    if !state.is_none() {
        let state = state
            .cast::<PyDict>()
            .map_err(|_| errors::unpickling("state is not a dictionary"))?;
        let dict = object.getattr(intern!(py, "__dict__"))?;
        for (name, value) in state
            .items()
            .iter()
            .map(|item| pair(&item))
            .collect::<PyResult<Vec<_>>>()?
        {
            // Names of attributes are interned.
            match name.cast_exact::<PyString>() {
                Ok(text) => match text.to_str() {
                    Ok(text) => dict.set_item(PyString::intern(py, text), value)?,
                    Err(_) => dict.set_item(text, value)?,
                },
                Err(_) => dict.set_item(name, value)?,
            }
        }
    }
    if !slots.is_none() {
        let slots = slots
            .cast::<PyDict>()
            .map_err(|_| errors::unpickling("slot state is not a dictionary"))?;
        for item in slots.items() {
            let (name, value) = pair(&item)?;
            let name = name.cast_into::<PyString>()?;
            object.setattr(name, value)?;
        }
    }
    Ok(())
}

fn pair<'py>(item: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    item.extract()
}

/// What `Unpickler.find_class` finds.
fn find<'py>(
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = module.py();
    // SAFETY: attached; two objects, as the format says.
    let audited = unsafe {
        PySys_Audit(
            c"pickle.find_class".as_ptr(),
            c"OO".as_ptr(),
            module.as_ptr(),
            name.as_ptr(),
        )
    };
    if audited != 0 {
        return Err(PyErr::fetch(py));
    }
    let (module_text, name_text) = (module.to_cow()?, name.to_cow()?);
    allow::find(py, &module_text, &name_text, || {
        if module_text == maker::MODULE && !name_text.contains('.') {
            return maker::named(name);
        }
        let modules = maker::modules(py)?;
        let found = match modules.get_item(module) {
            Ok(found) if !found.is_none() => found,
            _ => py.import(module)?.into_any(),
        };
        let mut object = found.clone();
        for part in name_text.split('.') {
            let next = if part == "<locals>" {
                None
            } else {
                object.getattr_opt(part)?
            };
            object = next.ok_or_else(|| {
                let what = if part == "<locals>" { "local " } else { "" };
                let found = found.repr();
                let found = found.map_or_else(|_| module_text.to_string(), |text| text.to_string());
                PyAttributeError::new_err(format!(
                    "Can't get {what}attribute '{name_text}' on {found}"
                ))
            })?;
        }
        Ok(object)
    })
}
