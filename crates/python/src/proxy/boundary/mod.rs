//! Where C code of the interpreter looks at an operand's memory without asking its type: what is
//! changed there so that proxies are asked.
//!
//! Each change is one function pointer in a static table of the interpreter. The function put there
//! compares one pointer, and for anything but a proxy goes on to what was there before.
//!
//! | what | why |
//! | --- | --- |
//! | `list + x`, `tuple + x`, `deque + x` | take only their own kind, and ask nobody else |
//! | `set \|= x` and its like | with a right operand that is no set, the interpreter would fall back on `set \| x`, which makes a new set |
//! | `x in set`, `set.remove(x)`, `set.discard(x)` | a set is looked for as a frozenset of the same contents |
//! | `str % x`, `bytes % x` | a tuple is taken apart, anything else is one value |
//! | methods such as `list.copy(x)` | called by name of the type, as `copy` does |
//! | special methods such as `list.__len__(x)`, `object.__setattr__(x, …)` | the same |
//! | `type.__subclasses__` | leaves out hidden subclasses |
//! | `heapq` | works on a copy, which is written back (`heap`) |
//! | indexing of numpy's arrays | a tuple is one index, any other sequence several (`numpy`) |
//! | the encoder of `json` | writes proxies of containers by their contents (`json`) |

mod heap;
mod json;
mod numpy;
mod operators;
mod set_keys;
mod subclasses;
mod unbound;

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use super::object::{Object, Payload, is_proxy, settled};

pub(crate) use numpy::hook_indexing;

type Class = *mut ffi::PyTypeObject;

static READY: AtomicBool = AtomicBool::new(false);

/// Puts the changes in, once. Everything here happens with the GIL held, so that atomics are relaxed.
pub(in crate::proxy) fn prepare(py: Python<'_>) -> PyResult<()> {
    if READY.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    operators::prepare(py)?;
    set_keys::prepare(py)?;
    unbound::prepare(py)?;
    subclasses::prepare(py)?;
    heap::prepare(py)?;
    json::prepare(py)?;
    numpy::prepare(py)
}

// ------------------------------------------------------------------ contents

/// A built-in container that a proxied type is, or derives from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Container {
    Bytearray,
    Dict,
    Frozenset,
    List,
    Set,
    Tuple,
}

/// Which built-in container `proxy` stands for.
///
/// # Safety
/// Attached; `proxy` is a live proxy whose type is known.
pub(in crate::proxy) unsafe fn container(proxy: Object) -> Option<Container> {
    // SAFETY: as the caller says.
    unsafe {
        let declared = (*Payload::of(proxy)).declared.cast::<ffi::PyTypeObject>();
        let is = |class: Class| ffi::PyType_IsSubtype(declared, class) != 0;
        Some(if is(&raw mut ffi::PyList_Type) {
            Container::List
        } else if is(&raw mut ffi::PyDict_Type) {
            Container::Dict
        } else if is(&raw mut ffi::PyTuple_Type) {
            Container::Tuple
        } else if is(&raw mut ffi::PySet_Type) {
            Container::Set
        } else if is(&raw mut ffi::PyFrozenSet_Type) {
            Container::Frozenset
        } else if is(&raw mut ffi::PyByteArray_Type) {
            Container::Bytearray
        } else {
            return None;
        })
    }
}

/// A real container with the contents of `proxy`, by its own protocol: a new reference, or null with
/// an error set.
///
/// # Safety
/// Attached; `proxy` is a live proxy of that container.
pub(in crate::proxy) unsafe fn contents(proxy: Object, container: Container) -> Object {
    // SAFETY: as the caller says.
    unsafe {
        match container {
            Container::Bytearray => ffi::PyByteArray_FromObject(proxy),
            Container::Frozenset => ffi::PyFrozenSet_New(proxy),
            Container::List => ffi::PySequence_List(proxy),
            Container::Set => ffi::PySet_New(proxy),
            Container::Tuple => ffi::PySequence_Tuple(proxy),
            Container::Dict => {
                let dict = ffi::PyDict_New();
                if !dict.is_null() && ffi::PyDict_Update(dict, proxy) != 0 {
                    ffi::Py_DECREF(dict);
                    return ptr::null_mut();
                }
                dict
            }
        }
    }
}

/// The operand in the place of `operand`: its contents if it is a proxy of a wanted container, what
/// it turned out to be if it is deferred, else the operand itself. A new reference, or null.
///
/// # Safety
/// Attached; `operand` is live.
unsafe fn real_operand(operand: Object, wanted: &[Container]) -> Object {
    // SAFETY: as the caller says.
    unsafe {
        let operand = settled(operand);
        if operand.is_null() || !is_proxy(operand) || (*Payload::of(operand)).is_deferred() {
            return operand;
        }
        match container(operand) {
            Some(container) if wanted.contains(&container) => {
                let real = contents(operand, container);
                ffi::Py_DECREF(operand);
                real
            }
            _ => operand,
        }
    }
}
