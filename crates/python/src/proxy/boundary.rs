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
//! | the encoder of `json` | writes proxies of containers by their contents (`json`) |

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, Ordering};

use objspace_proto::Op;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::object::{Object, Payload, declared_type, is_proxy, operate, settled};
use super::perform::{count, not_implemented};
use super::{bypass, heap, json, slots};

type Class = *mut ffi::PyTypeObject;

static READY: AtomicBool = AtomicBool::new(false);

/// Puts the changes in, once. Everything here happens with the GIL held, so that atomics are relaxed.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    if READY.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    operators(py)?;
    set_keys(py)?;
    unbound_methods(py)?;
    unbound_special_methods(py)?;
    hide_subclasses(py)?;
    heap::prepare(py)?;
    json::prepare(py)
}

// ------------------------------------------------------------------ contents

/// A built-in container that a proxied type is, or derives from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
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
pub(super) unsafe fn container(proxy: Object) -> Option<Container> {
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
pub(super) unsafe fn contents(proxy: Object, container: Container) -> Object {
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

// ------------------------------------------------------------------ operators

/// Where a binary operator stands in a type, as a place that can be written.
type Place = unsafe fn(Class) -> *mut Option<ffi::binaryfunc>;

macro_rules! places {
    ($($name:ident: $table:ident . $field:ident;)*) => {
        $(
            unsafe fn $name(class: Class) -> *mut Option<ffi::binaryfunc> {
                // SAFETY: callers are attached, with a live type whose tables live as long.
                unsafe {
                    let table = (*class).$table;
                    if table.is_null() { ptr::null_mut() } else { &raw mut (*table).$field }
                }
            }
        )*
    };
}

places! {
    concat: tp_as_sequence.sq_concat;
    remainder: tp_as_number.nb_remainder;
    in_place_or: tp_as_number.nb_inplace_or;
    in_place_and: tp_as_number.nb_inplace_and;
    in_place_xor: tp_as_number.nb_inplace_xor;
    in_place_subtract: tp_as_number.nb_inplace_subtract;
}

/// Operators that get a look at their right operand: the function put in, and what it goes on to.
macro_rules! hooked {
    ($($name:ident: $wanted:expr;)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) static BEFORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

                pub(super) unsafe extern "C" fn hook(left: Object, right: Object) -> Object {
                    // SAFETY: called by the interpreter as a slot, after `BEFORE` was set to the
                    // function of that slot.
                    unsafe {
                        let before = BEFORE.load(Ordering::Relaxed);
                        let before = std::mem::transmute::<*mut c_void, ffi::binaryfunc>(before);
                        if !is_proxy(right) {
                            return before(left, right);
                        }
                        let real = real_operand(right, $wanted);
                        if real.is_null() {
                            return ptr::null_mut();
                        }
                        let result = before(left, real);
                        ffi::Py_DECREF(real);
                        result
                    }
                }
            }
        )*
    };
}

hooked! {
    list_concat: &[Container::List];
    tuple_concat: &[Container::Tuple];
    str_remainder: &[Container::Tuple];
    bytes_remainder: &[Container::Tuple];
    bytearray_remainder: &[Container::Tuple];
    set_or: &[Container::Set, Container::Frozenset];
    set_and: &[Container::Set, Container::Frozenset];
    set_xor: &[Container::Set, Container::Frozenset];
    set_subtract: &[Container::Set, Container::Frozenset];
}

fn operators(py: Python<'_>) -> PyResult<()> {
    let list = &raw mut ffi::PyList_Type;
    let tuple = &raw mut ffi::PyTuple_Type;
    let set = &raw mut ffi::PySet_Type;
    let changes: [(Class, &str, Place, ffi::binaryfunc, &AtomicPtr<c_void>); 9] = [
        (
            list,
            "__add__",
            concat,
            list_concat::hook,
            &list_concat::BEFORE,
        ),
        (
            tuple,
            "__add__",
            concat,
            tuple_concat::hook,
            &tuple_concat::BEFORE,
        ),
        (
            &raw mut ffi::PyUnicode_Type,
            "__mod__",
            remainder,
            str_remainder::hook,
            &str_remainder::BEFORE,
        ),
        (
            &raw mut ffi::PyBytes_Type,
            "__mod__",
            remainder,
            bytes_remainder::hook,
            &bytes_remainder::BEFORE,
        ),
        (
            &raw mut ffi::PyByteArray_Type,
            "__mod__",
            remainder,
            bytearray_remainder::hook,
            &bytearray_remainder::BEFORE,
        ),
        (set, "__ior__", in_place_or, set_or::hook, &set_or::BEFORE),
        (
            set,
            "__iand__",
            in_place_and,
            set_and::hook,
            &set_and::BEFORE,
        ),
        (
            set,
            "__ixor__",
            in_place_xor,
            set_xor::hook,
            &set_xor::BEFORE,
        ),
        (
            set,
            "__isub__",
            in_place_subtract,
            set_subtract::hook,
            &set_subtract::BEFORE,
        ),
    ];
    for (class, name, place, hook, before) in changes {
        // SAFETY: attached; static types, whose tables are static too and written with the GIL held.
        unsafe {
            let Some(own) = place(class).as_mut().and_then(|slot| *slot) else {
                continue;
            };
            before.store(own as *mut c_void, Ordering::Relaxed);
            let class = Bound::from_borrowed_ptr(py, class.cast()).cast_into::<PyType>()?;
            replace(&class, place, own, hook)?;
            let wrapper = class.getattr("__dict__")?.get_item(name)?;
            if ffi::Py_TYPE(wrapper.as_ptr()) == &raw mut ffi::PyWrapperDescr_Type {
                let wrapper = wrapper.as_ptr().cast::<ffi::PyWrapperDescrObject>();
                if (*wrapper).d_wrapped == own as *mut c_void {
                    (*wrapper).d_wrapped = hook as *mut c_void;
                }
            }
        }
    }
    Ok(())
}

/// Replaces a slot in a type and in all subclasses that inherited it.
///
/// # Safety
/// Attached; both functions may stand in that slot.
unsafe fn replace(
    class: &Bound<'_, PyType>,
    place: Place,
    own: ffi::binaryfunc,
    hook: ffi::binaryfunc,
) -> PyResult<()> {
    // SAFETY: as the caller says; the type is live.
    unsafe {
        match place(class.as_type_ptr()).as_mut() {
            Some(slot) if slot.is_some_and(|slot| ptr::fn_addr_eq(slot, own)) => *slot = Some(hook),
            _ => return Ok(()),
        }
        let subclasses = class
            .py()
            .get_type::<PyType>()
            .call_method1("__subclasses__", (class,))?;
        for subclass in subclasses.try_iter()? {
            replace(subclass?.cast::<PyType>()?, place, own, hook)?;
        }
    }
    Ok(())
}

// ------------------------------------------------------------------ sets as keys of sets

/// Functions of sets that take a key: the function put in, and what it goes on to.
macro_rules! keyed {
    ($($name:ident: $result:ty, $error:expr;)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) static BEFORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

                pub(super) unsafe extern "C" fn hook(set: Object, key: Object) -> $result {
                    // SAFETY: called by the interpreter in the place of the function in `BEFORE`,
                    // which has this type.
                    unsafe {
                        let before = std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn(Object, Object) -> $result,
                        >(BEFORE.load(Ordering::Relaxed));
                        if !is_proxy(key) {
                            return before(set, key);
                        }
                        let real = real_key(key);
                        if real.is_null() {
                            return $error;
                        }
                        let result = before(set, real);
                        ffi::Py_DECREF(real);
                        let error = ffi::PyErr_Occurred();
                        if !error.is_null() && error == ffi::PyExc_KeyError {
                            // It names the key that was asked for.
                            ffi::PyErr_SetObject(error, key);
                        }
                        result
                    }
                }
            }
        )*
    };
}

keyed! {
    contained: c_int, -1;
    set_contains: Object, ptr::null_mut();
    set_remove: Object, ptr::null_mut();
    set_discard: Object, ptr::null_mut();
    frozenset_contains: Object, ptr::null_mut();
}

/// A key in the place of `key`; a new reference, or null with an error set.
unsafe fn real_key(key: Object) -> Object {
    // SAFETY: callers are attached, with a live proxy.
    unsafe {
        let key = settled(key);
        if key.is_null() || !is_proxy(key) || (*Payload::of(key)).is_deferred() {
            return key;
        }
        if container(key) != Some(Container::Set) || (*Payload::of(key)).has(Op::HASH) {
            return key;
        }
        let real = contents(key, Container::Frozenset);
        ffi::Py_DECREF(key);
        real
    }
}

fn set_keys(py: Python<'_>) -> PyResult<()> {
    let (set, frozenset) = (&raw mut ffi::PySet_Type, &raw mut ffi::PyFrozenSet_Type);
    let methods: [(Class, &str, ffi::PyCFunction, &AtomicPtr<c_void>); 4] = [
        (
            set,
            "__contains__",
            set_contains::hook,
            &set_contains::BEFORE,
        ),
        (set, "remove", set_remove::hook, &set_remove::BEFORE),
        (set, "discard", set_discard::hook, &set_discard::BEFORE),
        (
            frozenset,
            "__contains__",
            frozenset_contains::hook,
            &frozenset_contains::BEFORE,
        ),
    ];
    // SAFETY: attached; static types, whose tables and method definitions are static too and written
    // with the GIL held. Only methods of one argument are replaced.
    unsafe {
        for (class, name, hook, before) in methods {
            let class = Bound::from_borrowed_ptr(py, class.cast());
            let method = class.getattr("__dict__")?.get_item(name)?;
            if ffi::Py_TYPE(method.as_ptr()) != &raw mut ffi::PyMethodDescr_Type {
                continue;
            }
            let definition = (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
            if (*definition).ml_flags & ffi::METH_O != 0 {
                before.store(
                    (*definition).ml_meth.PyCFunction as *mut c_void,
                    Ordering::Relaxed,
                );
                (*definition).ml_meth = ffi::PyMethodDefPointer { PyCFunction: hook };
            }
        }
        for class in [set, frozenset] {
            let table = (*class).tp_as_sequence;
            let Some(own) = (*table).sq_contains else {
                continue;
            };
            // Both types may share one table.
            if ptr::fn_addr_eq(own, contained::hook as ffi::objobjproc) {
                continue;
            }
            contained::BEFORE.store(own as *mut c_void, Ordering::Relaxed);
            (*table).sq_contains = Some(contained::hook);
        }
    }
    Ok(())
}

// ------------------------------------------------------------------ methods called by name of the type

/// How C functions take their arguments, as far as CPython tells them apart in a descriptor.
const CONVENTIONS: usize = 6;

static VECTORCALLS: [AtomicPtr<c_void>; CONVENTIONS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; CONVENTIONS];

const HOOKS: [ffi::vectorcallfunc; CONVENTIONS] = [
    call_method::<0>,
    call_method::<1>,
    call_method::<2>,
    call_method::<3>,
    call_method::<4>,
    call_method::<5>,
];

fn convention(flags: c_int) -> Option<usize> {
    let bits = flags
        & (ffi::METH_VARARGS
            | ffi::METH_FASTCALL
            | ffi::METH_NOARGS
            | ffi::METH_O
            | ffi::METH_KEYWORDS
            | ffi::METH_METHOD);
    [
        ffi::METH_VARARGS,
        ffi::METH_VARARGS | ffi::METH_KEYWORDS,
        ffi::METH_FASTCALL,
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ffi::METH_NOARGS,
        ffi::METH_O,
    ]
    .iter()
    .position(|known| *known == bits)
}

fn unbound_methods(py: Python<'_>) -> PyResult<()> {
    let classes: [Class; 7] = [
        &raw mut ffi::PyBaseObject_Type,
        &raw mut ffi::PyByteArray_Type,
        &raw mut ffi::PyDict_Type,
        &raw mut ffi::PyFrozenSet_Type,
        &raw mut ffi::PyList_Type,
        &raw mut ffi::PySet_Type,
        &raw mut ffi::PyTuple_Type,
    ];
    for class in classes {
        // SAFETY: attached; static types. A descriptor's fields are those of a public header, and it
        // is written with the GIL held. Descriptors of one calling convention share one function.
        unsafe {
            let class = Bound::from_borrowed_ptr(py, class.cast());
            for value in class
                .getattr("__dict__")?
                .call_method0("values")?
                .try_iter()?
            {
                let value = value?;
                if ffi::Py_TYPE(value.as_ptr()) != &raw mut ffi::PyMethodDescr_Type {
                    continue;
                }
                let descriptor = value.as_ptr().cast::<ffi::PyMethodDescrObject>();
                let Some(index) = convention((*(*descriptor).d_method).ml_flags) else {
                    continue;
                };
                let (Some(own), Some(before), Some(hook)) = (
                    (*descriptor).vectorcall,
                    VECTORCALLS.get(index),
                    HOOKS.get(index),
                ) else {
                    continue;
                };
                let own = own as *mut c_void;
                let known = before.load(Ordering::Relaxed);
                if known.is_null() || ptr::eq(known, own) {
                    before.store(own, Ordering::Relaxed);
                    (*descriptor).vectorcall = Some(*hook);
                }
            }
        }
    }
    Ok(())
}

unsafe extern "C" fn call_method<const CONVENTION: usize>(
    descriptor: Object,
    args: *const Object,
    flags: usize,
    kwnames: Object,
) -> Object {
    // SAFETY: called by the interpreter as the vectorcall of a method descriptor, after the function
    // of that calling convention was remembered.
    unsafe {
        let positional = ffi::PyVectorcall_NARGS(flags).cast_unsigned();
        if positional > 0 && is_proxy(*args) {
            let rest = std::slice::from_raw_parts(args.add(1), positional - 1 + count(kwnames));
            if let Some(result) = unbound(descriptor, *args, rest, kwnames) {
                return result;
            }
        }
        let before = VECTORCALLS
            .get(CONVENTION)
            .map_or(ptr::null_mut(), |own| own.load(Ordering::Relaxed));
        let before = std::mem::transmute::<*mut c_void, ffi::vectorcallfunc>(before);
        before(descriptor, args, flags, kwnames)
    }
}

/// `descriptor(proxy, *rest)` as an operation on the proxy, if that is what its type would do;
/// `None` if the descriptor is to see the proxy itself, which for a built-in type is an error.
///
/// # Safety
/// Attached, with live objects; `descriptor` is one of a method or of a slot.
unsafe fn unbound(
    descriptor: Object,
    proxy: Object,
    rest: &[Object],
    kwnames: Object,
) -> Option<Object> {
    // SAFETY: as the caller says. Both kinds of descriptor begin with the fields read here.
    unsafe {
        let common = descriptor.cast::<ffi::PyDescrObject>();
        let (class, name) = ((*common).d_type, (*common).d_name);
        let declared = declared_type(proxy);
        if declared.is_null() {
            return Some(ptr::null_mut());
        }
        let of_object = ptr::eq(class, &raw mut ffi::PyBaseObject_Type);
        let text = ffi::PyUnicode_AsUTF8(name);
        let text = if text.is_null() {
            ""
        } else {
            CStr::from_ptr(text).to_str().unwrap_or("")
        };
        let result = match (text, rest) {
            // What `super().__setattr__` of a class ends in: a proxy has no other attributes.
            ("__getattribute__" | "__setattr__" | "__delattr__", _)
                if of_object && kwnames.is_null() && rest.len() == attribute_arguments(text) =>
            {
                let operation = || match (text, rest) {
                    ("__getattribute__", &[name]) => slots::get_attribute(proxy, name),
                    ("__delattr__", &[name]) => {
                        none(slots::set_attribute(proxy, name, ptr::null_mut()))
                    }
                    (_, &[name, value]) => none(slots::set_attribute(proxy, name, value)),
                    _ => not_implemented(),
                };
                Some(if is_method(declared, name, descriptor) {
                    operation()
                } else {
                    bypass::around(proxy, operation)
                })
            }
            _ if ffi::PyType_IsSubtype(declared.cast(), class) == 0 => None,
            _ => {
                // Only if the method is not overridden between here and the proxied type.
                is_method(declared, name, descriptor)
                    .then(|| forward(proxy, text, name, rest, kwnames))
            }
        };
        ffi::Py_DECREF(declared);
        result
    }
}

/// How many arguments a method of attributes takes: a name, and what is assigned.
fn attribute_arguments(method: &str) -> usize {
    if method == "__setattr__" { 2 } else { 1 }
}
/// Whether `descriptor` is what `declared` has by that name.
///
/// # Safety
/// Attached, with live objects; `declared` is a type.
unsafe fn is_method(declared: Object, name: Object, descriptor: Object) -> bool {
    // SAFETY: as the caller says; what is found is owned here.
    unsafe {
        let kind = &raw mut ffi::PyType_Type;
        let found = match (*kind).tp_getattro {
            Some(get) => get(declared, name),
            None => ptr::null_mut(),
        };
        if found.is_null() {
            ffi::PyErr_Clear();
        }
        let same = ptr::eq(found, descriptor);
        ffi::Py_XDECREF(found);
        same
    }
}

unsafe fn none(status: c_int) -> Object {
    // SAFETY: callers are attached; the singleton lives for ever.
    if status < 0 {
        ptr::null_mut()
    } else {
        // SAFETY: attached; None is always there.
        unsafe { ffi::Py_NewRef(ffi::Py_None()) }
    }
}

/// The operation of that name, or the method that the proxy has by that name, called.
unsafe fn forward(
    proxy: Object,
    text: &str,
    name: Object,
    rest: &[Object],
    kwnames: Object,
) -> Object {
    // SAFETY: callers are attached, with live objects.
    unsafe {
        match Op::from_name(text) {
            Some(op) if (*Payload::of(proxy)).has(op) => operate(proxy, op, rest, kwnames),
            _ => {
                let method = ffi::PyObject_GetAttr(proxy, name);
                if method.is_null() {
                    return method;
                }
                let result = ffi::PyObject_Vectorcall(
                    method,
                    rest.as_ptr(),
                    rest.len() - count(kwnames),
                    kwnames,
                );
                ffi::Py_DECREF(method);
                result
            }
        }
    }
}

// ------------------------------------------------------------------ special methods of slots

static WRAPPER_CALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static BOUND_WRAPPER_CALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Where a bound slot wrapper keeps its object, as its own table of members says.
static BOUND_SELF: AtomicIsize = AtomicIsize::new(0);

fn unbound_special_methods(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached; static types whose slots are written with the GIL held.
    unsafe {
        let class = &raw mut ffi::PyWrapperDescr_Type;
        if let Some(call) = (*class).tp_call {
            WRAPPER_CALL.store(call as *mut c_void, Ordering::Relaxed);
            (*class).tp_call = Some(call_wrapper);
        }
        let bound = py.None().bind(py).getattr("__str__")?;
        let class = ffi::Py_TYPE(bound.as_ptr());
        let mut member = (*class).tp_members;
        while !member.is_null() && !(*member).name.is_null() {
            if CStr::from_ptr((*member).name) == c"__self__" {
                BOUND_SELF.store((*member).offset, Ordering::Relaxed);
            }
            member = member.add(1);
        }
        if BOUND_SELF.load(Ordering::Relaxed) > 0
            && let Some(call) = (*class).tp_call
        {
            BOUND_WRAPPER_CALL.store(call as *mut c_void, Ordering::Relaxed);
            (*class).tp_call = Some(call_bound_wrapper);
        }
    }
    Ok(())
}

unsafe fn is_empty(kwargs: Object) -> bool {
    // SAFETY: callers pass a dict or null.
    kwargs.is_null() || unsafe { ffi::PyDict_Size(kwargs) } == 0
}

unsafe extern "C" fn call_wrapper(descriptor: Object, args: Object, kwargs: Object) -> Object {
    // SAFETY: called by the interpreter as `tp_call` of a slot wrapper: a tuple, and a dict or null.
    unsafe {
        let size = ffi::PyTuple_GET_SIZE(args);
        if size > 0 {
            let proxy = ffi::PyTuple_GET_ITEM(args, 0);
            if is_proxy(proxy) && is_empty(kwargs) {
                let rest: Vec<_> = (1..size)
                    .map(|index| ffi::PyTuple_GET_ITEM(args, index))
                    .collect();
                if let Some(result) = unbound(descriptor, proxy, &rest, ptr::null_mut()) {
                    return result;
                }
            }
        }
        let before = WRAPPER_CALL.load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::ternaryfunc>(before)(descriptor, args, kwargs)
    }
}

unsafe extern "C" fn call_bound_wrapper(wrapper: Object, args: Object, kwargs: Object) -> Object {
    // SAFETY: called by the interpreter as `tp_call` of a bound slot wrapper, whose own table of
    // members says where its object is.
    unsafe {
        let proxy = *wrapper
            .byte_offset(BOUND_SELF.load(Ordering::Relaxed))
            .cast::<Object>();
        if !proxy.is_null() && is_proxy(proxy) && is_empty(kwargs) {
            let rest: Vec<_> = (0..ffi::PyTuple_GET_SIZE(args))
                .map(|index| ffi::PyTuple_GET_ITEM(args, index))
                .collect();
            let descriptor = descriptor_of(wrapper);
            if descriptor.is_null() {
                return descriptor;
            }
            let result = unbound(descriptor, proxy, &rest, ptr::null_mut());
            ffi::Py_DECREF(descriptor);
            if let Some(result) = result {
                return result;
            }
        }
        let before = BOUND_WRAPPER_CALL.load(Ordering::Relaxed);
        std::mem::transmute::<*mut c_void, ffi::ternaryfunc>(before)(wrapper, args, kwargs)
    }
}

/// The descriptor that a bound slot wrapper came from; a new reference or null with an error set.
unsafe fn descriptor_of(wrapper: Object) -> Object {
    // SAFETY: callers are attached, with a live wrapper; all results are owned here.
    unsafe {
        let class = ffi::PyObject_GetAttrString(wrapper, c"__objclass__".as_ptr());
        let name = ffi::PyObject_GetAttrString(wrapper, c"__name__".as_ptr());
        let kind = &raw mut ffi::PyType_Type;
        let found = match (*kind).tp_getattro {
            Some(get) if !class.is_null() && !name.is_null() => get(class, name),
            _ => ptr::null_mut(),
        };
        ffi::Py_XDECREF(class);
        ffi::Py_XDECREF(name);
        if !found.is_null() && ffi::Py_TYPE(found) != &raw mut ffi::PyWrapperDescr_Type {
            ffi::Py_DECREF(found);
            ffi::PyErr_SetString(
                ffi::PyExc_TypeError,
                c"the method of a proxy's type was replaced".as_ptr(),
            );
            return ptr::null_mut();
        }
        found
    }
}

// ------------------------------------------------------------------ hidden subclasses

static SUBCLASSES: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

fn hide_subclasses(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached. The definition of a method of a static type is static, and is written with
    // the GIL held; only one that takes no arguments is replaced.
    unsafe {
        let method = py
            .get_type::<PyType>()
            .getattr("__dict__")?
            .get_item("__subclasses__")?;
        if ffi::Py_TYPE(method.as_ptr()) != &raw mut ffi::PyMethodDescr_Type {
            return Ok(());
        }
        let definition = (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
        if (*definition).ml_flags & ffi::METH_NOARGS == 0 {
            return Ok(());
        }
        SUBCLASSES.store(
            (*definition).ml_meth.PyCFunction as *mut c_void,
            Ordering::Relaxed,
        );
        (*definition).ml_meth = ffi::PyMethodDefPointer {
            PyCFunction: visible_subclasses,
        };
    }
    Ok(())
}

unsafe extern "C" fn visible_subclasses(class: Object, unused: Object) -> Object {
    // SAFETY: called by the interpreter as a method without arguments, after the original was
    // remembered; that returns a new list or null.
    unsafe {
        let before = SUBCLASSES.load(Ordering::Relaxed);
        let list = std::mem::transmute::<*mut c_void, ffi::PyCFunction>(before)(class, unused);
        if list.is_null() || ffi::PyList_Check(list) == 0 {
            return list;
        }
        let mut index = ffi::PyList_GET_SIZE(list);
        while index > 0 {
            index -= 1;
            let subclass = ffi::PyList_GET_ITEM(list, index).cast::<ffi::PyTypeObject>();
            let hidden = (*subclass).tp_dealloc.is_some_and(|own| {
                ptr::fn_addr_eq(own, super::object::dealloc_proxy as ffi::destructor)
            });
            if hidden && ffi::PyList_SetSlice(list, index, index + 1, ptr::null_mut()) != 0 {
                ffi::Py_DECREF(list);
                return ptr::null_mut();
            }
        }
        list
    }
}
