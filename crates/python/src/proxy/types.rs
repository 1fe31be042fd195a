//! Proxy types: one per proxied type, with the slots and special methods that this type has.
//!
//! There are two kinds. For a built-in type, and for a class that derives from one, the proxy type
//! derives from `object` alone: C code that asks for a list finds none, and falls back on the
//! object's protocol or refuses, but never reads an empty list. For a class without built-in bases,
//! and for exceptions, which the interpreter insists on, it is a *hidden subclass*, so that `super()`
//! and C-level checks hold. A hidden subclass is made without running code of the class or its
//! metaclass, and `__subclasses__()` leaves it out (`boundary`).
//!
//! A proxy type is kept by its proxied type, in a field that CPython reserves for a cache and does
//! not use, inside a dict, which the garbage collector can empty: neither keeps the other alive for
//! longer than it would live.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use objspace_proto::Op;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::object::{Object, Payload, clear_proxy, dealloc_proxy, traverse_proxy};
use super::table::{self, OpSet, SLOTS, opname};
use super::{boundary, slots};

type Class = *mut ffi::PyTypeObject;

/// A proxy type and what is known about it.
pub(super) struct ProxyType<'py> {
    pub(super) class: Bound<'py, PyType>,
    /// What the proxied type can do; null for everything.
    pub(super) present: *const OpSet,
    pub(super) is_exception: bool,
}

/// Whether instances of `class` are exceptions.
///
/// # Safety
/// Attached, and `class` is live.
#[inline]
pub(super) unsafe fn is_exception_class(class: Class) -> bool {
    // SAFETY: as the caller says.
    unsafe { (*class).tp_flags & ffi::Py_TPFLAGS_BASE_EXC_SUBCLASS != 0 }
}

/// The innermost base that is not made by a `class` statement: `object`, or a built-in type.
///
/// # Safety
/// Attached, and `class` is live.
pub(super) unsafe fn static_base(class: Class) -> Class {
    // SAFETY: the bases of a live type are live, and the last one is `object`, which is static.
    unsafe {
        let mut base = class;
        while (*base).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0 && !(*base).tp_base.is_null() {
            base = (*base).tp_base;
        }
        base
    }
}

/// Built-in types whose values are copied whole: a proxy of one could do nothing that C code heeds.
fn is_plain_value(class: Class) -> bool {
    let plain: [Class; 14] = [
        &raw mut ffi::PyBool_Type,
        &raw mut ffi::PyBytes_Type,
        &raw mut ffi::PyComplex_Type,
        &raw mut ffi::PyEllipsis_Type,
        &raw mut ffi::PyFloat_Type,
        &raw mut ffi::PyLong_Type,
        &raw mut ffi::PyRange_Type,
        &raw mut ffi::PySlice_Type,
        &raw mut ffi::PyUnicode_Type,
        // SAFETY: the singletons live for ever, and so do their types.
        unsafe { ffi::Py_TYPE(ffi::Py_None()) },
        // SAFETY: as above.
        unsafe { ffi::Py_TYPE(ffi::Py_NotImplemented()) },
        &raw mut ffi::PyCell_Type,
        &raw mut ffi::PyCapsule_Type,
        &raw mut ffi::PySuper_Type,
    ];
    plain.contains(&class)
}

/// Whether objects of `class` can have proxies; the error names the type.
pub(crate) fn proxyable(class: &Bound<'_, PyType>) -> PyResult<()> {
    if is_plain_value(class.as_type_ptr()) {
        let name = class.qualname()?;
        return Err(PyTypeError::new_err(format!(
            "cannot make a proxy of type '{name}'"
        )));
    }
    Ok(())
}

/// The proxy type of `declared`, made when first asked for.
pub(super) fn proxy_type<'py>(declared: &Bound<'py, PyType>) -> PyResult<ProxyType<'py>> {
    let py = declared.py();
    if let Some(found) = cached(declared)? {
        return Ok(found);
    }
    proxyable(declared)?;
    boundary::prepare(py)?;
    let made = make(declared)?;
    // SAFETY: attached, with a live type, whose field is ours by the rule of this module.
    unsafe {
        let class = declared.as_type_ptr();
        let entry = PyTuple::new(
            py,
            [
                made.class.clone().into_any(),
                made.present.addr().into_pyobject(py)?.into_any(),
            ],
        )?;
        if (*class).tp_cache.is_null() {
            (*class).tp_cache = PyDict::new(py).into_ptr();
        }
        let cache = Bound::from_borrowed_ptr(py, (*class).tp_cache).cast_into::<PyDict>()?;
        cache.set_item(cache_key(py), entry)?;
    }
    Ok(made)
}

fn cache_key(py: Python<'_>) -> &Bound<'_, PyString> {
    pyo3::intern!(py, "objspace.proxy")
}

fn cached<'py>(declared: &Bound<'py, PyType>) -> PyResult<Option<ProxyType<'py>>> {
    let py = declared.py();
    // SAFETY: attached, with a live type; the field is null or a dict of ours, whose entry holds a
    // proxy type and the address of a set that is never freed.
    unsafe {
        let cache = (*declared.as_type_ptr()).tp_cache;
        if cache.is_null() || ffi::PyDict_Check(cache) == 0 {
            return Ok(None);
        }
        let entry = ffi::PyDict_GetItemWithError(cache, cache_key(py).as_ptr());
        if entry.is_null() {
            return PyErr::take(py).map_or(Ok(None), Err);
        }
        let class =
            Bound::from_borrowed_ptr(py, ffi::PyTuple_GET_ITEM(entry, 0)).cast_into::<PyType>()?;
        let present = ffi::PyLong_AsVoidPtr(ffi::PyTuple_GET_ITEM(entry, 1));
        let is_exception = is_exception_class(class.as_type_ptr());
        Ok(Some(ProxyType {
            class,
            present: present.cast(),
            is_exception,
        }))
    }
}

/// The type of deferred proxies: it has every slot.
pub(super) fn deferred_type(py: Python<'_>) -> PyResult<ProxyType<'_>> {
    static DEFERRED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = DEFERRED.get_or_try_init(py, || {
        boundary::prepare(py)?;
        let mut present = OpSet::default();
        for op in Op::ALL {
            present.insert(*op);
        }
        let mut plan = Plan::new(c"object", present);
        plan.slots.extend(
            SLOTS
                .iter()
                .filter(|slot| !table::is_sequence_slot(slot.number))
                .map(|slot| (slot.number, slot.function.cast_mut())),
        );
        plan.callable = true;
        plan.weakly_referenced = true;
        plan.make(py).map(Bound::unbind)
    })?;
    Ok(ProxyType {
        class: class.bind(py).clone(),
        present: ptr::null(),
        is_exception: false,
    })
}

/// A class as `class` statements make them.
fn plain_class(py: Python<'_>) -> PyResult<Class> {
    static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = PLAIN.get_or_try_init(py, || {
        let arguments = ("Plain", PyTuple::empty(py), PyDict::new(py));
        py.get_type::<PyType>().call1(arguments).map(Bound::unbind)
    })?;
    Ok(class.as_ptr().cast())
}

/// Whether the proxy type must be, and can be, a subclass of `class`.
fn is_hidden_subclass(declared: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = declared.py();
    let plain = plain_class(py)?;
    // SAFETY: attached, with live types and their bases.
    unsafe {
        let dealloc = (*plain).tp_dealloc;
        let class = declared.as_type_ptr();
        let exception = is_exception_class(class);
        let mut base = class;
        let mut plain =
            (*class).tp_flags & ffi::Py_TPFLAGS_BASETYPE != 0 && (*class).tp_itemsize == 0;
        while plain
            && (*base).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
            && !(*base).tp_base.is_null()
        {
            plain = same_function((*base).tp_dealloc, dealloc);
            base = (*base).tp_base;
        }
        if exception && !plain {
            let name = declared.qualname()?;
            return Err(PyTypeError::new_err(format!(
                "cannot make a proxy of type '{name}': its memory is laid out by an extension module"
            )));
        }
        let plain_object = ptr::eq(base, &raw mut ffi::PyBaseObject_Type);
        Ok(exception || (plain && plain_object && !ptr::eq(class, base)))
    }
}

/// Whether two slots hold the same function.
fn same_function(left: Option<ffi::destructor>, right: Option<ffi::destructor>) -> bool {
    matches!((left, right), (Some(left), Some(right)) if ptr::fn_addr_eq(left, right))
}

fn make<'py>(declared: &Bound<'py, PyType>) -> PyResult<ProxyType<'py>> {
    let py = declared.py();
    let class = declared.as_type_ptr();
    let hidden = is_hidden_subclass(declared)?;
    let present = present(declared)?;
    // SAFETY: a live type; its name lives as long as it.
    let name = unsafe { CStr::from_ptr((*class).tp_name) };
    let mut plan = Plan::new(name, present);
    // SAFETY: attached, with live types, whose slots and flags may be read.
    unsafe {
        // What says "not an iterator" is a function too.
        let no_next = ffi::PyType_GetSlot(plain_class(py)?, ffi::Py_tp_iternext);
        for slot in SLOTS {
            let theirs = ffi::PyType_GetSlot(class, slot.number);
            if theirs.is_null() {
                continue;
            }
            let unhashable = ffi::PyObject_HashNotImplemented as *const c_void;
            if slot.number == ffi::Py_tp_iternext && ptr::eq(theirs, no_next) {
                continue;
            }
            if slot.number == ffi::Py_tp_hash && ptr::eq(theirs, unhashable) {
                plan.slots.push((slot.number, theirs));
            } else {
                plan.slots.push((slot.number, slot.function.cast_mut()));
            }
        }
        let has = |number| !ffi::PyType_GetSlot(class, number).is_null();
        if has(ffi::Py_sq_repeat) && !has(ffi::Py_nb_multiply) {
            plan.slots
                .push((ffi::Py_nb_multiply, slots::repeat_reflected as *mut c_void));
        }
        if ffi::PyType_IsSubtype(class, &raw mut ffi::PyType_Type) != 0
            && !has(ffi::Py_mp_subscript)
        {
            // `C[int]` of a class is known to the interpreter without a slot.
            let get_item = SLOTS
                .iter()
                .find(|slot| slot.number == ffi::Py_mp_subscript);
            plan.slots
                .extend(get_item.map(|slot| (slot.number, slot.function.cast_mut())));
        }
        plan.callable = has(ffi::Py_tp_call);
        plan.flags |= (*class).tp_flags & (ffi::Py_TPFLAGS_SEQUENCE | ffi::Py_TPFLAGS_MAPPING);
        // The line cache refers weakly to remote frames, although a real frame does not allow it.
        let frame = class == &raw mut ffi::PyFrame_Type;
        plan.weakly_referenced = !hidden && ((*class).tp_weaklistoffset != 0 || frame);
        if hidden {
            plan.base = Some(declared.clone());
        }
    }
    let made = plan.make(py)?;
    // `repr` and messages of the interpreter show the names of the proxied type.
    for name in [
        pyo3::intern!(py, "__module__"),
        pyo3::intern!(py, "__qualname__"),
    ] {
        // SAFETY: attached, with live objects; `type`'s own setter runs no code of a metaclass.
        unsafe {
            let kind = &raw mut ffi::PyType_Type;
            if let (Some(get), Some(set)) = ((*kind).tp_getattro, (*kind).tp_setattro) {
                let value = get(declared.as_ptr(), name.as_ptr());
                if value.is_null() || set(made.as_ptr(), name.as_ptr(), value) != 0 {
                    ffi::PyErr_Clear();
                }
                ffi::Py_XDECREF(value);
            }
        }
    }
    // SAFETY: attached; a new type of ours, which nothing has used yet.
    unsafe {
        let made = made.as_type_ptr();
        if hidden {
            // What the class would do when an object of its own dies is not what a proxy does.
            (*made).tp_finalize = None;
            (*made).tp_del = None;
            if !is_exception_class(made) {
                // No dict: the attributes of a proxy are its controller's.
                (*made).tp_dictoffset = 0;
                (*made).tp_flags &= !ffi::Py_TPFLAGS_MANAGED_DICT;
            }
        } else {
            (*made).tp_flags |= ffi::Py_TPFLAGS_IMMUTABLETYPE;
        }
        ffi::PyType_Modified(made);
    }
    let is_exception = hidden && {
        // SAFETY: a live type.
        unsafe { is_exception_class(class) }
    };
    Ok(ProxyType {
        class: made,
        present: shape(&present).present(),
        is_exception,
    })
}

/// The operations that objects of `class` have: those whose special method is defined by a class of
/// the method resolution order, the first of which does not say `None`.
fn present(class: &Bound<'_, PyType>) -> PyResult<OpSet> {
    let py = class.py();
    // SAFETY: attached; `type`'s own getter is asked, which no metaclass can override.
    let getter = unsafe { ffi::PyType_Type.tp_getattro };
    let dicts = class
        .mro()
        .iter()
        .map(|base| {
            // SAFETY: attached, with live objects; a new reference or null.
            unsafe {
                let name = pyo3::intern!(py, "__dict__").as_ptr();
                let dict = getter.map_or(ptr::null_mut(), |get| get(base.as_ptr(), name));
                Bound::from_owned_ptr_or_err(py, dict)
            }
        })
        .collect::<PyResult<Vec<_>>>()?;
    let mut set = OpSet::default();
    for op in Op::ALL {
        // SAFETY: the name lives for ever.
        let name = unsafe { Bound::from_borrowed_ptr(py, opname(*op)) };
        for dict in &dicts {
            if dict.contains(&name)? {
                if !dict.get_item(&name)?.is_none() {
                    set.insert(*op);
                }
                break;
            }
        }
    }
    Ok(set)
}

/// What all types with the same special methods share: never freed, and few.
struct Shape {
    present: OpSet,
    methods: Vec<ffi::PyMethodDef>,
}

// SAFETY: written once, before it is shared; afterwards only read.
unsafe impl Sync for Shape {}
// SAFETY: as above.
unsafe impl Send for Shape {}

impl Shape {
    fn present(&self) -> *const OpSet {
        &raw const self.present
    }
}

fn shape(present: &OpSet) -> &'static Shape {
    static SHAPES: Mutex<Option<HashMap<OpSet, &'static Shape>>> = Mutex::new(None);
    let mut shapes = SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
    shapes
        .get_or_insert_default()
        .entry(*present)
        .or_insert_with(|| {
            Box::leak(Box::new(Shape {
                present: *present,
                methods: table::methods(present),
            }))
        })
}

/// A proxy type to be made.
struct Plan<'py> {
    name: CString,
    base: Option<Bound<'py, PyType>>,
    slots: Vec<(c_int, *mut c_void)>,
    flags: std::ffi::c_ulong,
    present: OpSet,
    callable: bool,
    weakly_referenced: bool,
}

const PREFIX: &str = "objspace.";

impl<'py> Plan<'py> {
    fn new(name: &CStr, present: OpSet) -> Self {
        // A name without a module is deprecated for a new type: the prefix is hidden afterwards.
        let dotted = [PREFIX.as_bytes(), name.to_bytes()].concat();
        Self {
            name: CString::new(dotted).unwrap_or_default(),
            base: None,
            slots: Vec::with_capacity(SLOTS.len() + 8),
            flags: ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_HAVE_GC
                | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION,
            present,
            callable: false,
            weakly_referenced: false,
        }
    }

    fn make(mut self, py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
        let base = self.base.take();
        // SAFETY: a live type.
        let below = base
            .as_ref()
            .map_or(size_of::<ffi::PyObject>(), |base| unsafe {
                (*base.as_type_ptr()).tp_basicsize.cast_unsigned()
            });
        let below = below.next_multiple_of(align_of::<Payload>());
        let member = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: (below + offset).cast_signed(),
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        };
        // Copied into the type by the interpreter.
        let mut members = Vec::new();
        if self.weakly_referenced {
            members.push(member(
                c"__weaklistoffset__",
                std::mem::offset_of!(Payload, weakrefs),
            ));
        }
        if self.callable {
            members.push(member(
                c"__vectorcalloffset__",
                std::mem::offset_of!(Payload, vectorcall),
            ));
            self.flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
        }
        members.push(ffi::PyMemberDef::default());
        let methods = shape(&self.present).methods.as_ptr();
        let own: [(c_int, *mut c_void); 7] = [
            (ffi::Py_tp_dealloc, dealloc_proxy as *mut c_void),
            (ffi::Py_tp_traverse, traverse_proxy as *mut c_void),
            (ffi::Py_tp_clear, clear_proxy as *mut c_void),
            (ffi::Py_tp_getattro, slots::get_attribute as *mut c_void),
            (ffi::Py_tp_setattro, slots::set_attribute as *mut c_void),
            (ffi::Py_tp_methods, methods.cast_mut().cast()),
            (ffi::Py_tp_members, members.as_mut_ptr().cast()),
        ];
        let mut table: Vec<_> = own
            .into_iter()
            .chain(self.slots.iter().copied())
            .chain([(0, ptr::null_mut())])
            .map(|(slot, pfunc)| ffi::PyType_Slot { slot, pfunc })
            .collect();
        let mut spec = ffi::PyType_Spec {
            name: self.name.as_ptr(),
            basicsize: c_int::try_from(below + size_of::<Payload>())?,
            itemsize: 0,
            flags: self.flags as std::ffi::c_uint,
            slots: table.as_mut_ptr(),
        };
        // SAFETY: the spec and its tables are complete; what the interpreter keeps of them, the
        // methods, is never freed. The name is copied.
        unsafe {
            let class = match base {
                None => ffi::PyType_FromSpec(&raw mut spec),
                Some(base) => subclass(&raw mut spec, &base)?,
            };
            let class = Bound::from_owned_ptr_or_err(py, class)?;
            let kind = class.as_ptr().cast::<ffi::PyTypeObject>();
            // The interpreter frees its copy by another field; this one is only read.
            if CStr::from_ptr((*kind).tp_name)
                .to_bytes()
                .starts_with(PREFIX.as_bytes())
            {
                (*kind).tp_name = (*kind).tp_name.add(PREFIX.len());
            }
            Ok(class.cast_into()?)
        }
    }
}

/// `PyType_FromSpecWithBases` without the code of a metaclass: CPython 3.12 refuses metaclasses that
/// have a `__new__` of their own, because it would not be run, which is what is wanted here.
unsafe fn subclass(spec: *mut ffi::PyType_Spec, base: &Bound<'_, PyType>) -> PyResult<Object> {
    let bases = PyTuple::new(base.py(), [base])?;
    // SAFETY: the caller has a complete spec. No Python code runs between the two changes of the
    // metaclass: the collector is the only thing that could, and it is off.
    unsafe {
        let metaclass = ffi::Py_TYPE(base.as_ptr());
        let collecting = ffi::PyGC_Disable();
        let own = (*metaclass).tp_new;
        (*metaclass).tp_new = ffi::PyType_Type.tp_new;
        let class = ffi::PyType_FromSpecWithBases(spec, bases.as_ptr());
        (*metaclass).tp_new = own;
        if collecting != 0 {
            ffi::PyGC_Enable();
        }
        Ok(class)
    }
}
