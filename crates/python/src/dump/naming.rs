//! Names for objects that hold for good: a serial for each, given when it is first seen.
//!
//! A table leads from an object's memory to its serial. [`lifetimes`] tells when memory is given
//! back; the entry goes, and the next object there gets a serial of its own. What is written about
//! an object when it is first seen is found without running anybody's code.

use std::ffi::CStr;

use objspace_interp::lifetimes;
use objspace_interp::observe::small_int;
use objspace_log::{Payload, raw};
use pyo3::ffi;

/// The longest text about an object, in bytes.
const TEXT_MAX: usize = 160;
/// How many elements of a container are shown.
const ELEMENTS_MAX: isize = 4;

unsafe extern "C" {
    // Public, but not declared by `pyo3-ffi`.
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

#[derive(Clone, Copy)]
struct Entry {
    key: usize,
    serial: u64,
    class: usize,
}

const EMPTY: Entry = Entry {
    key: 0,
    serial: 0,
    class: 0,
};

/// From the memory of an object to its serial: open addressing, no tombstones.
struct Table {
    entries: Box<[Entry]>,
    used: usize,
    shift: u32,
}

impl Table {
    fn new() -> Self {
        // Small enough to stay in the nearest cache; it grows.
        Self::with_bits(9)
    }

    fn with_bits(bits: u32) -> Self {
        Self {
            entries: vec![EMPTY; 1 << bits].into(),
            used: 0,
            shift: 64 - bits,
        }
    }

    #[inline]
    fn home(&self, key: usize) -> usize {
        ((key as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// The place of a key, or the free place where it would be.
    #[inline]
    fn find(&self, key: usize) -> usize {
        let mask = self.entries.len() - 1;
        let mut place = self.home(key);
        loop {
            let entry = &self.entries[place];
            if entry.key == key || entry.key == 0 {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    fn insert(&mut self, entry: Entry) {
        if (self.used + 1) * 2 > self.entries.len() {
            let mut larger = Self::with_bits(64 - self.shift + 1);
            for old in self.entries.iter().filter(|entry| entry.key != 0) {
                let place = larger.find(old.key);
                larger.entries[place] = *old;
            }
            larger.used = self.used;
            *self = larger;
        }
        let place = self.find(entry.key);
        self.used += usize::from(self.entries[place].key == 0);
        self.entries[place] = entry;
    }

    #[inline]
    fn remove(&mut self, key: usize) -> Option<u64> {
        let mut hole = self.find(key);
        let entry = self.entries[hole];
        if entry.key == 0 {
            return None;
        }
        let mask = self.entries.len() - 1;
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let candidate = self.entries[next];
            if candidate.key == 0 {
                break;
            }
            // It may move into the hole unless its home lies behind it.
            let home = self.home(candidate.key);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries[hole] = candidate;
                hole = next;
            }
        }
        self.entries[hole] = EMPTY;
        self.used -= 1;
        Some(entry.serial)
    }
}

/// The names of all objects that were seen and are alive.
pub(super) struct Names {
    table: Table,
    last: u64,
    /// Serials of objects that are gone, not yet in the log.
    pub(super) gone: Vec<u64>,
    /// References to every object that was seen, if they are to stay alive.
    kept: Option<Vec<*mut ffi::PyObject>>,
    /// Whether the table or `gone` is being changed right now; for that, no object goes away.
    text: Vec<u8>,
}

impl Names {
    pub(super) fn new(keep_alive: bool) -> Self {
        Self {
            table: Table::new(),
            last: 0,
            gone: Vec::new(),
            kept: keep_alive.then(Vec::new),
            text: Vec::new(),
        }
    }

    /// An object is gone, if this is the key of one that was seen.
    #[inline]
    pub(super) fn forget(&mut self, key: usize) {
        if let Some(serial) = self.table.remove(key) {
            // SAFETY: reports come with the GIL held; what is in the table is expected.
            unsafe { lifetimes::forget(key) };
            self.gone.push(serial);
        }
    }

    /// The references that kept objects alive; to be given back when nothing else is in use.
    pub(super) fn take_kept(&mut self) -> Vec<*mut ffi::PyObject> {
        self.kept.take().unwrap_or_default()
    }

    /// The words of a value. A float has two. What must be known of an object is written to `out`
    /// first.
    ///
    /// # Safety
    /// The GIL is held; `object` is null or alive.
    #[inline]
    pub(super) unsafe fn value(
        &mut self,
        object: *mut ffi::PyObject,
        out: &mut Vec<u64>,
    ) -> (u64, Option<u64>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.known(object) {
                Some(words) => words,
                None => self.first_sight(object, out),
            }
        }
    }

    /// The words of a scalar, or of an object that was seen before. `None`: ask
    /// [`value`](Self::value).
    ///
    /// # Safety
    /// As [`value`](Self::value).
    #[inline]
    pub(super) unsafe fn known(&self, object: *mut ffi::PyObject) -> Option<(u64, Option<u64>)> {
        use raw::word;
        // SAFETY: the caller's promise; the casts follow exact types.
        unsafe {
            if object.is_null() {
                return Some((word::ABSENT, None));
            }
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyLong_Type {
                return small_int(object).map(|number| (word::int(number), None));
            }
            if class == &raw mut ffi::PyFloat_Type {
                let bits = ffi::PyFloat_AS_DOUBLE(object).to_bits();
                return Some((word::FLOAT, Some(bits)));
            }
            if class == &raw mut ffi::PyBool_Type {
                let truth = object == ffi::Py_True();
                return Some((if truth { word::TRUE } else { word::FALSE }, None));
            }
            if object == ffi::Py_None() {
                return Some((word::NONE, None));
            }
            let key = lifetimes::key(object);
            let entry = &self.table.entries[self.table.find(key)];
            (entry.key == key && entry.class == class as usize)
                .then(|| (word::object(entry.serial), None))
        }
    }

    /// The serial of an object that is no scalar.
    ///
    /// # Safety
    /// As [`value`](Self::value).
    pub(super) unsafe fn serial(&mut self, object: *mut ffi::PyObject, out: &mut Vec<u64>) -> u64 {
        // SAFETY: passed on.
        unsafe { self.value(object, out).0 >> 3 }
    }

    #[cold]
    unsafe fn first_sight(
        &mut self,
        object: *mut ffi::PyObject,
        out: &mut Vec<u64>,
    ) -> (u64, Option<u64>) {
        use raw::word;
        // SAFETY: as in `value`.
        unsafe {
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyLong_Type {
                let mut overflow = 0;
                let number = ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow);
                if overflow == 0 && raw::INTS.contains(&number) {
                    return (word::int(number), None);
                }
            }
            if object == ffi::Py_Ellipsis() {
                return (word::ELLIPSIS, None);
            }
            if object == ffi::Py_NotImplemented() {
                return (word::NOT_IMPLEMENTED, None);
            }
            let key = lifetimes::key(object);
            let entry = self.table.entries[self.table.find(key)];
            if entry.key == key {
                let was: *mut ffi::PyTypeObject = entry.class as *mut _;
                // Assigning `__class__` changes the type of an object; only heap types (and
                // modules) allow it. Otherwise the memory changed hands unseen.
                let may_change = (*class).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
                    || was == &raw mut ffi::PyModule_Type;
                if may_change {
                    let place = self.table.find(key);
                    self.table.entries[place].class = class as usize;
                    return (word::object(entry.serial), None);
                }
                self.forget(key);
            }
            // Its type comes first, and gets the smaller serial; `type` is of itself.
            let class_serial = if class.cast() == object {
                0
            } else {
                self.serial(class.cast(), out)
            };
            self.last += 1;
            let serial = self.last;
            self.table.insert(Entry {
                key,
                serial,
                class: class as usize,
            });
            lifetimes::expect(key);
            if let Some(kept) = &mut self.kept {
                ffi::Py_INCREF(object);
                kept.push(object);
            }
            let mut text = std::mem::take(&mut self.text);
            text.clear();
            let (payload, whole) = describe(object, &mut text);
            let flags = if whole { 0 } else { raw::TRUNCATED };
            let class_serial = if class_serial == 0 {
                serial
            } else {
                class_serial
            };
            raw::push_object(out, serial, class_serial, payload, flags, &text);
            self.text = text;
            (word::object(serial), None)
        }
    }
}

/// Writes what is known of an object: the kind of payload, and whether that is all of it.
///
/// # Safety
/// The GIL is held. Runs nobody's code.
unsafe fn describe(object: *mut ffi::PyObject, text: &mut Vec<u8>) -> (u8, bool) {
    // SAFETY: each case looks at the fields of an exact type, or of one that is derived from it
    // and keeps them.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyUnicode_Type {
            return (Payload::STR, string(object, TEXT_MAX, text));
        }
        if class == &raw mut ffi::PyBytes_Type {
            let length = usize::try_from(ffi::PyBytes_Size(object)).unwrap_or(0);
            let shown = length.min(TEXT_MAX);
            text.extend_from_slice(std::slice::from_raw_parts(
                ffi::PyBytes_AsString(object).cast::<u8>(),
                shown,
            ));
            return (Payload::BYTES, shown == length);
        }
        if class == &raw mut ffi::PyLong_Type {
            return large_int(object, text);
        }
        if ffi::PyType_Check(object) != 0 {
            class_name(object.cast(), text);
            return (Payload::CLASS, true);
        }
        if class == &raw mut ffi::PyFunction_Type {
            string(
                (*object.cast::<ffi::PyFunctionObject>()).func_qualname,
                TEXT_MAX,
                text,
            );
        } else if class == &raw mut ffi::PyCFunction_Type {
            c_function(object, text);
        } else if class == &raw mut PyMethod_Type {
            let function = PyMethod_Function(object);
            if ffi::Py_TYPE(function) == &raw mut ffi::PyFunction_Type {
                let function = function.cast::<ffi::PyFunctionObject>();
                string((*function).func_qualname, TEXT_MAX, text);
            }
        } else if class == &raw mut ffi::PyMethodDescr_Type
            || class == &raw mut ffi::PyWrapperDescr_Type
            || class == &raw mut ffi::PyGetSetDescr_Type
            || class == &raw mut ffi::PyMemberDescr_Type
        {
            let descriptor = object.cast::<ffi::PyDescrObject>();
            class_name((*descriptor).d_type, text);
            text.push(b'.');
            string((*descriptor).d_name, TEXT_MAX, text);
        } else if class == &raw mut ffi::PyModule_Type {
            let name = ffi::PyModule_GetNameObject(object);
            if name.is_null() {
                ffi::PyErr_Clear();
            } else {
                string(name, TEXT_MAX, text);
                ffi::Py_DECREF(name);
            }
        } else if class == &raw mut ffi::PyTuple_Type || class == &raw mut ffi::PyList_Type {
            sequence(object, text);
        } else if class == &raw mut ffi::PyDict_Type {
            counted("len", ffi::PyDict_Size(object), text);
        } else if class == &raw mut ffi::PySet_Type || class == &raw mut ffi::PyFrozenSet_Type {
            counted("len", ffi::PySet_Size(object), text);
        } else if class == &raw mut ffi::PyByteArray_Type {
            counted("len", ffi::PyByteArray_Size(object), text);
        } else if ffi::PyCode_Check(object) != 0 {
            string(
                objspace_interp::observe::facts(object).qualname,
                TEXT_MAX,
                text,
            );
        } else if (*class).tp_flags & ffi::Py_TPFLAGS_BASE_EXC_SUBCLASS != 0 {
            let arguments = (*object.cast::<ffi::PyBaseExceptionObject>()).args;
            if !arguments.is_null() && ffi::Py_TYPE(arguments) == &raw mut ffi::PyTuple_Type {
                sequence(arguments, text);
            }
        }
        if text.is_empty() {
            (Payload::NONE, true)
        } else {
            (Payload::TEXT, true)
        }
    }
}

fn counted(what: &str, count: isize, text: &mut Vec<u8>) {
    text.extend_from_slice(format!("{what} {count}").as_bytes());
}

/// Appends a string, or its beginning; false if that is not all.
pub(super) unsafe fn string(object: *mut ffi::PyObject, max: usize, text: &mut Vec<u8>) -> bool {
    // SAFETY: the type is checked; derived types keep the layout.
    unsafe {
        if object.is_null() || ffi::PyUnicode_Check(object) == 0 {
            return false;
        }
        let length = usize::try_from(ffi::PyUnicode_GetLength(object)).unwrap_or(0);
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) != 0 {
            let shown = length.min(max);
            let data = ffi::PyUnicode_DATA(object).cast::<u8>();
            text.extend_from_slice(std::slice::from_raw_parts(data, shown));
            return shown == length;
        }
        let start = text.len();
        let mut faithful = true;
        for index in 0..length {
            let code = ffi::PyUnicode_ReadChar(object, index as isize);
            // A surrogate has no UTF-8.
            let character = char::from_u32(code).unwrap_or_else(|| {
                faithful = false;
                char::REPLACEMENT_CHARACTER
            });
            if text.len() + character.len_utf8() > start + max {
                return false;
            }
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        faithful
    }
}

unsafe fn large_int(object: *mut ffi::PyObject, text: &mut Vec<u8>) -> (u8, bool) {
    // SAFETY: an exact `int`: its conversion runs nobody's code.
    unsafe {
        let digits = ffi::PyNumber_ToBase(object, 16);
        if digits.is_null() {
            ffi::PyErr_Clear();
            return (Payload::NONE, true);
        }
        let whole = string(digits, TEXT_MAX, text);
        ffi::Py_DECREF(digits);
        (Payload::INT, whole)
    }
}

/// `module.qualname` of a class.
pub(super) unsafe fn class_name(class: *mut ffi::PyTypeObject, text: &mut Vec<u8>) {
    // SAFETY: a type object. The dict of a heap type is its own, with strings as keys.
    unsafe {
        if (*class).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            let name = CStr::from_ptr((*class).tp_name).to_bytes();
            if !name.contains(&b'.') {
                text.extend_from_slice(b"builtins.");
            }
            text.extend_from_slice(&name[..name.len().min(TEXT_MAX)]);
            return;
        }
        let dict = (*class).tp_dict;
        if !dict.is_null() {
            let module = ffi::PyDict_GetItemString(dict, c"__module__".as_ptr());
            if !module.is_null() {
                let before = text.len();
                string(module, TEXT_MAX, text);
                if text.len() > before {
                    text.push(b'.');
                }
            }
        }
        let heap = class.cast::<ffi::PyHeapTypeObject>();
        string((*heap).ht_qualname, TEXT_MAX, text);
    }
}

unsafe fn c_function(object: *mut ffi::PyObject, text: &mut Vec<u8>) {
    // SAFETY: an exact builtin function; its definition is static or kept by it.
    unsafe {
        let function = object.cast::<ffi::PyCFunctionObject>();
        let owner = (*function).m_self;
        if !owner.is_null() {
            if ffi::PyModule_Check(owner) == 0 {
                let class = if ffi::PyType_Check(owner) != 0 {
                    owner.cast()
                } else {
                    ffi::Py_TYPE(owner)
                };
                class_name(class, text);
                text.push(b'.');
            } else if !(*function).m_module.is_null()
                && ffi::PyUnicode_Check((*function).m_module) != 0
            {
                string((*function).m_module, TEXT_MAX, text);
                text.push(b'.');
            }
        }
        let definition = (*function).m_ml;
        if !definition.is_null() && !(*definition).ml_name.is_null() {
            text.extend_from_slice(CStr::from_ptr((*definition).ml_name).to_bytes());
        }
    }
}

/// The scalars among the first elements of a list or tuple.
unsafe fn sequence(object: *mut ffi::PyObject, text: &mut Vec<u8>) {
    // SAFETY: an exact list or tuple, read within its size; the elements are alive.
    unsafe {
        let is_list = ffi::PyList_Check(object) != 0;
        let count = ffi::Py_SIZE(object);
        text.push(if is_list { b'[' } else { b'(' });
        for index in 0..count.min(ELEMENTS_MAX) {
            if index > 0 {
                text.extend_from_slice(b", ");
            }
            let element = if is_list {
                ffi::PyList_GET_ITEM(object, index)
            } else {
                ffi::PyTuple_GET_ITEM(object, index)
            };
            scalar(element, text);
        }
        if count > ELEMENTS_MAX {
            text.extend_from_slice(format!(", … {count} in all").as_bytes());
        } else if count == 1 && !is_list {
            text.push(b',');
        }
        text.push(if is_list { b']' } else { b')' });
    }
}

unsafe fn scalar(object: *mut ffi::PyObject, text: &mut Vec<u8>) {
    // SAFETY: an element of a live container, or null in one that is being made.
    unsafe {
        if object.is_null() {
            text.extend_from_slice(b"NULL");
            return;
        }
        let class = ffi::Py_TYPE(object);
        if object == ffi::Py_None() {
            text.extend_from_slice(b"None");
        } else if class == &raw mut ffi::PyBool_Type {
            let truth = object == ffi::Py_True();
            text.extend_from_slice(if truth { b"True" } else { b"False" });
        } else if class == &raw mut ffi::PyLong_Type
            && let Some(number) = small_int(object)
        {
            text.extend_from_slice(number.to_string().as_bytes());
        } else if class == &raw mut ffi::PyFloat_Type {
            text.extend_from_slice(format!("{:?}", ffi::PyFloat_AS_DOUBLE(object)).as_bytes());
        } else if class == &raw mut ffi::PyUnicode_Type {
            text.push(b'\'');
            let whole = string(object, 24, text);
            text.extend_from_slice(if whole { "'" } else { "…'" }.as_bytes());
        } else {
            text.push(b'<');
            let mut name = Vec::new();
            class_name(class, &mut name);
            let start = name
                .iter()
                .rposition(|&byte| byte == b'.')
                .map_or(0, |dot| dot + 1);
            text.extend_from_slice(&name[start..]);
            text.push(b'>');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EMPTY, Entry, Table};

    #[test]
    fn the_table_is_a_map() {
        let mut table = Table::with_bits(2);
        let mut model = std::collections::HashMap::new();
        let mut state = 1_u64;
        for serial in 1..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = ((state >> 40) as usize % 300 + 1) * 16;
            if state >> 63 == 0 {
                table.insert(Entry {
                    key,
                    serial,
                    ..EMPTY
                });
                model.insert(key, serial);
            } else {
                assert_eq!(table.remove(key), model.remove(&key));
            }
            assert_eq!(table.used, model.len());
        }
        for (key, serial) in model {
            assert_eq!(table.entries[table.find(key)].serial, serial);
        }
    }
}
