//! Values of builtin types. CPython's pickler asks nobody about objects of exactly these types, so no
//! reducer can be meant for them.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::{DEEPEST, LONGEST, Unfit, Writer, Written, opcode};

impl<'py> Writer<'py> {
    /// Writes one object.
    pub(super) fn object(&mut self, object: &Bound<'py, PyAny>) -> Written {
        if self.out.len() > LONGEST {
            return Err(Unfit);
        }
        let class = object.get_type_ptr();
        if object.is_none() {
            self.put(opcode::NONE);
        } else if class == &raw mut ffi::PyLong_Type {
            let value = object.cast_exact::<PyInt>().map_err(|_| Unfit)?;
            self.int(value.extract()?);
        } else if class == &raw mut ffi::PyBool_Type {
            let truth = object.is_truthy()?;
            self.put(if truth {
                opcode::NEWTRUE
            } else {
                opcode::NEWFALSE
            });
        } else if class == &raw mut ffi::PyFloat_Type {
            let value = object.cast_exact::<PyFloat>().map_err(|_| Unfit)?;
            self.put(opcode::BINFLOAT);
            self.out.extend(value.value().to_be_bytes());
        } else if self.again(object.as_ptr() as usize) {
        } else {
            return self.first_time(object, class);
        }
        Ok(())
    }

    /// Writes an object that was not written before.
    fn first_time(&mut self, object: &Bound<'py, PyAny>, class: *mut ffi::PyTypeObject) -> Written {
        if class == &raw mut ffi::PyUnicode_Type {
            let text = object.cast_exact::<PyString>().map_err(|_| Unfit)?;
            // With surrogates it has no UTF-8.
            self.text(text.to_str()?)?;
            self.remember(object);
            return Ok(());
        }
        if class == &raw mut ffi::PyBytes_Type {
            let bytes = object.cast_exact::<PyBytes>().map_err(|_| Unfit)?;
            self.bytes(bytes.as_bytes())?;
            self.remember(object);
            return Ok(());
        }
        if self.depth == DEEPEST {
            return Err(Unfit);
        }
        self.depth += 1;
        if class == &raw mut ffi::PyTuple_Type {
            self.tuple(object.cast_exact::<PyTuple>().map_err(|_| Unfit)?)?;
        } else if class == &raw mut ffi::PyList_Type {
            self.list(object.cast_exact::<PyList>().map_err(|_| Unfit)?)?;
        } else if class == &raw mut ffi::PyDict_Type {
            self.dict(object.cast_exact::<PyDict>().map_err(|_| Unfit)?)?;
        } else if class == &raw mut ffi::PySet_Type {
            self.set(object.cast_exact::<PySet>().map_err(|_| Unfit)?)?;
        } else if class == &raw mut ffi::PyFrozenSet_Type {
            self.frozenset(object.cast_exact::<PyFrozenSet>().map_err(|_| Unfit)?)?;
        } else if class == &raw mut ffi::PyByteArray_Type {
            let bytes = object.cast_exact::<PyByteArray>().map_err(|_| Unfit)?;
            let bytes = bytes.to_vec();
            self.fits(bytes.len())?;
            self.put(opcode::BYTEARRAY8);
            self.out.extend((bytes.len() as u64).to_le_bytes());
            self.out.extend(bytes);
            self.remember(object);
        } else {
            self.other(object)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn fits(&self, more: usize) -> Written {
        if more > LONGEST {
            return Err(Unfit);
        }
        Ok(())
    }

    pub(super) fn int(&mut self, value: i64) {
        if let Ok(value) = u8::try_from(value) {
            self.out.extend([opcode::BININT1, value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.put(opcode::BININT2);
            self.out.extend(value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.put(opcode::BININT);
            self.out.extend(value.to_le_bytes());
        } else {
            // Without the bytes that only repeat the sign.
            let spare = if value < 0 {
                value.leading_ones()
            } else {
                value.leading_zeros()
            };
            let length = (8 - (spare - 1) / 8) as u8;
            self.out.extend([opcode::LONG1, length]);
            self.out
                .extend(value.to_le_bytes().iter().take(usize::from(length)));
        }
    }

    /// Text, without an entry in the memo.
    pub(super) fn text(&mut self, text: &str) -> Written {
        self.fits(text.len())?;
        self.short_or_long(
            text.as_bytes(),
            opcode::SHORT_BINUNICODE,
            opcode::BINUNICODE,
        );
        Ok(())
    }

    /// Bytes, without an entry in the memo.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Written {
        self.fits(bytes.len())?;
        self.short_or_long(bytes, opcode::SHORT_BINBYTES, opcode::BINBYTES);
        Ok(())
    }

    fn short_or_long(&mut self, bytes: &[u8], short: u8, long: u8) {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.out.extend([short, length]),
            Err(_) => {
                self.put(long);
                self.out.extend((bytes.len() as u32).to_le_bytes());
            }
        }
        self.out.extend_from_slice(bytes);
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>) -> Written {
        let count = tuple.len();
        if count == 0 {
            self.put(opcode::EMPTY_TUPLE);
            return Ok(());
        }
        if count > 3 {
            self.put(opcode::MARK);
        }
        for item in tuple.iter_borrowed() {
            self.object(&item)?;
        }
        // It contains itself: writing its items has written it.
        if let Some(number) = self.memo.get(tuple.as_ptr() as usize) {
            if count > 3 {
                self.put(opcode::POP_MARK);
            } else {
                self.out.extend(std::iter::repeat_n(opcode::POP, count));
            }
            self.number(number);
            return Ok(());
        }
        self.tuple_of(count);
        self.remember(tuple.as_any());
        Ok(())
    }

    /// Makes a tuple of the last values; of more than three, of those behind the mark.
    pub(super) fn tuple_of(&mut self, count: usize) {
        self.put(match count {
            1 => opcode::TUPLE1,
            2 => opcode::TUPLE2,
            3 => opcode::TUPLE3,
            _ => opcode::TUPLE,
        });
    }

    fn list(&mut self, list: &Bound<'py, PyList>) -> Written {
        self.put(opcode::EMPTY_LIST);
        self.remember(list.as_any());
        match list.len() {
            0 => return Ok(()),
            1 => {
                self.object(&list.get_item(0)?)?;
                self.put(opcode::APPEND);
                return Ok(());
            }
            _ => {}
        }
        self.put(opcode::MARK);
        for item in list {
            self.object(&item)?;
        }
        self.put(opcode::APPENDS);
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>) -> Written {
        self.put(opcode::EMPTY_DICT);
        self.remember(dict.as_any());
        let count = dict.len();
        if count > 1 {
            self.put(opcode::MARK);
        }
        let mut position = 0;
        loop {
            let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: attached; a dict, whose entries are held before anything else happens. If it is
            // changed meanwhile, positions may skip entries, which the count below would show.
            let (key, value) = unsafe {
                let (key_slot, value_slot) = (&raw mut key, &raw mut value);
                if ffi::PyDict_Next(dict.as_ptr(), &raw mut position, key_slot, value_slot) == 0 {
                    break;
                }
                (
                    Bound::from_borrowed_ptr(self.py, key),
                    Bound::from_borrowed_ptr(self.py, value),
                )
            };
            self.object(&key)?;
            self.object(&value)?;
            if dict.len() != count {
                return Err(Unfit);
            }
        }
        match count {
            0 => {}
            1 => self.put(opcode::SETITEM),
            _ => self.put(opcode::SETITEMS),
        }
        Ok(())
    }

    fn set(&mut self, set: &Bound<'py, PySet>) -> Written {
        self.put(opcode::EMPTY_SET);
        self.remember(set.as_any());
        if set.is_empty() {
            return Ok(());
        }
        self.put(opcode::MARK);
        for item in set.as_any().try_iter()? {
            self.object(&item?)?;
        }
        self.put(opcode::ADDITEMS);
        Ok(())
    }

    fn frozenset(&mut self, set: &Bound<'py, PyFrozenSet>) -> Written {
        self.put(opcode::MARK);
        for item in set.as_any().try_iter()? {
            self.object(&item?)?;
        }
        // It contains what refers to it.
        if let Some(number) = self.memo.get(set.as_ptr() as usize) {
            self.put(opcode::POP_MARK);
            self.number(number);
            return Ok(());
        }
        self.put(opcode::FROZENSET);
        self.remember(set.as_any());
        Ok(())
    }
}
