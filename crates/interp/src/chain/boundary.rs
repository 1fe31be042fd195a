//! Which calls through C code can be crossed.
//!
//! `a + b` calls `a.__add__(b)` through C code, and what that returns is the result of the
//! instruction. Such calls are crossed: the callee is found the way CPython finds it, by looking at the
//! operands on the stack, and [`Action`] says what becomes of its result. All others (`sorted` with a
//! key, `map`, `__hash__` of a key) are refused by name: the C code in between has a state of its own,
//! which nobody can save.

use std::ffi::CStr;

use pyo3_ffi::{
    Py_DECREF, Py_TYPE, PyCFunction_Check, PyClassMethod_Type, PyDict_Check, PyErr_Clear,
    PyModule_Check, PyModule_GetDict, PyObject, PyObject_GetAttrString, PyProperty_Type,
    PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyType_Check, PyType_IsSubtype,
    PyTypeObject, PyUnicode_AsUTF8, PyUnicode_InternFromString,
};

use super::describe::describe;
use super::greenlet::Switches;
use super::operators::{binary_names, comparison, comparison_names};
use super::{Action, Then};
use crate::layout::{Code, Opcode, attribute, opcode};
use crate::owned::Owned;
use crate::verify::Shape;

unsafe extern "C" {
    fn _PyType_Lookup(class: *mut PyTypeObject, name: *mut PyObject) -> *mut PyObject;
    static mut PyMethod_Type: PyTypeObject;
    fn PyMethod_New(function: *mut PyObject, object: *mut PyObject) -> *mut PyObject;
    fn PyMethod_Function(method: *mut PyObject) -> *mut PyObject;
    fn PyMethod_Self(method: *mut PyObject) -> *mut PyObject;
}

/// What a frame waits for.
#[derive(Clone, Copy)]
pub(super) enum Callee {
    Function {
        function: *mut PyObject,
        /// Its first argument, null if it has none.
        first: *mut PyObject,
    },
    Generator(*mut PyObject),
    /// The C function that captures.
    Native(*mut PyObject),
    /// The methods of a greenlet that switch away.
    Switch(Switches),
}

impl Callee {
    fn is(self, object: *mut PyObject) -> bool {
        match self {
            Self::Function { function, .. } | Self::Native(function) => function == object,
            Self::Generator(_) => false,
            // SAFETY: attached; what is asked about is a callable of a frame that waits.
            Self::Switch(switches) => unsafe { switches.contain(object) },
        }
    }

    const fn first(self) -> *mut PyObject {
        match self {
            Self::Function { first, .. } => first,
            Self::Generator(_) | Self::Native(_) | Self::Switch(_) => std::ptr::null_mut(),
        }
    }
}

/// How a call is crossed.
pub(super) struct Crossing {
    /// How many values of the stack stay.
    pub(super) keep: usize,
    /// What the topmost of them is replaced by.
    pub(super) top: Option<Owned>,
    /// Where the frame goes on with a value.
    pub(super) next: usize,
    pub(super) then: Then,
}

/// What the type of an object has under a name, borrowed; null if nothing.
///
/// # Safety
/// See the crate.
pub(super) unsafe fn lookup(object: *mut PyObject, name: &CStr) -> *mut PyObject {
    // SAFETY: passed on.
    unsafe { lookup_in(Py_TYPE(object), name) }
}

/// # Safety
/// See the crate.
unsafe fn lookup_in(class: *mut PyTypeObject, name: &CStr) -> *mut PyObject {
    // SAFETY: the name is a string; nothing is raised for a name that is interned.
    unsafe {
        let name = PyUnicode_InternFromString(name.as_ptr());
        if name.is_null() {
            PyErr_Clear();
            return name;
        }
        let found = _PyType_Lookup(class, name);
        Py_DECREF(name);
        found
    }
}

/// Whether the method of this name, looked up by the type of `object`, is what is waited for.
///
/// # Safety
/// See the crate.
unsafe fn method(object: *mut PyObject, name: &CStr, callee: Callee) -> bool {
    // SAFETY: passed on.
    unsafe { !object.is_null() && is_function(lookup(object, name), callee) }
}

/// # Safety
/// See the crate; null is nothing.
unsafe fn is_function(object: *mut PyObject, callee: Callee) -> bool {
    // SAFETY: passed on.
    unsafe {
        if object.is_null() {
            return false;
        }
        if callee.is(object) {
            return true;
        }
        if Py_TYPE(object) == &raw mut PyClassMethod_Type {
            return attribute_is(object, c"__func__", callee);
        }
        false
    }
}

/// # Safety
/// See the crate.
unsafe fn attribute_is(object: *mut PyObject, name: &CStr, callee: Callee) -> bool {
    // SAFETY: the new reference is given back; the attribute lives on in `object`.
    unsafe {
        let Some(value) = Owned::taking(PyObject_GetAttrString(object, name.as_ptr())) else {
            PyErr_Clear();
            return false;
        };
        callee.is(value.as_ptr())
    }
}

/// How the call in which a frame waits is crossed. The error says why it cannot be; or a Python
/// exception is set.
///
/// # Safety
/// See the crate; `stack` is that of the frame before the instruction.
pub(super) unsafe fn cross(
    code: *mut Code,
    shape: &Shape,
    number: usize,
    stack: &[*mut PyObject],
    callee: &Callee,
) -> Result<Crossing, String> {
    let callee = *callee;
    let mut step = &shape.instructions[number];
    let mut instruction = step.instruction;
    // In 3.11 the first half of a call does the whole, if it is specialised for a C function.
    if opcode(instruction.opcode) == Opcode::Precall
        && let Some(call) = shape.instructions.get(number + 1)
    {
        step = call;
        instruction = step.instruction;
    }
    let kind = opcode(instruction.opcode);
    let refused = || describe(instruction, stack);
    let depth = stack.len();
    let from_top = |index: usize| depth.checked_sub(index).map(|index| stack[index]);
    // Only an analysis that is wrong has fewer values than the instruction needs.
    let value = |index: usize| from_top(index).ok_or_else(refused);
    let crossing = |taken: usize, then: Then| Crossing {
        keep: depth - taken,
        top: None,
        next: instruction.next,
        then,
    };
    let push = || Then::plain(Action::Push);
    let argument = instruction.argument as usize;
    // SAFETY: the values are those of a frame that waits: objects or null, as the analysis says.
    unsafe {
        match kind {
            Opcode::Call | Opcode::CallKw | Opcode::CallFunctionEx => {
                let taken = match kind {
                    Opcode::Call => argument + 2,
                    Opcode::CallKw => argument + 3,
                    _ => 3 + (argument & 1),
                };
                value(taken)?;
                let then = call(kind, &stack[depth - taken..], callee).ok_or_else(refused)?;
                Ok(crossing(taken, then))
            }
            Opcode::ForIter => {
                let iterator = value(1)?;
                match callee {
                    Callee::Generator(generator) if generator == iterator => {
                        Ok(crossing(0, Then::plain(Action::Loop)))
                    }
                    _ if method(iterator, c"__next__", callee) => {
                        Ok(crossing(0, Then::plain(Action::Step)))
                    }
                    _ => Err(refused()),
                }
            }
            Opcode::Send => match callee {
                Callee::Generator(generator) if generator == value(2)? => {
                    Ok(crossing(1, Then::plain(Action::Send)))
                }
                _ => Err(refused()),
            },
            Opcode::BinaryOp => {
                let (left, right) = (value(2)?, value(1)?);
                let then = binary(instruction.argument, left, right, callee);
                Ok(crossing(2, then.ok_or_else(refused)?))
            }
            Opcode::CompareOp => {
                let (left, right) = (value(2)?, value(1)?);
                let then = compare(instruction.argument, left, right, callee);
                Ok(crossing(2, then.ok_or_else(refused)?))
            }
            Opcode::ContainsOp if method(value(1)?, c"__contains__", callee) => {
                Ok(crossing(2, Then::plain(Action::Contains)))
            }
            Opcode::BinarySubscr => {
                let container = value(2)?;
                let fine = method(container, c"__getitem__", callee)
                    || (PyDict_Check(container) != 0 && method(container, c"__missing__", callee))
                    || (PyType_Check(container) != 0
                        && is_function(lookup_in(container.cast(), c"__class_getitem__"), callee));
                fine.then(|| crossing(2, push())).ok_or_else(refused)
            }
            Opcode::BinarySlice if method(value(3)?, c"__getitem__", callee) => {
                Ok(crossing(3, push()))
            }
            Opcode::StoreSubscr if method(value(2)?, c"__setitem__", callee) => {
                Ok(crossing(3, Then::plain(Action::Drop)))
            }
            Opcode::StoreSlice if method(value(3)?, c"__setitem__", callee) => {
                Ok(crossing(4, Then::plain(Action::Drop)))
            }
            Opcode::DeleteSubscr if method(value(2)?, c"__delitem__", callee) => {
                Ok(crossing(2, Then::plain(Action::Drop)))
            }
            Opcode::UnaryNegative if method(value(1)?, c"__neg__", callee) => {
                Ok(crossing(1, push()))
            }
            Opcode::UnaryInvert if method(value(1)?, c"__invert__", callee) => {
                Ok(crossing(1, push()))
            }
            Opcode::UnaryPositive if method(value(1)?, c"__pos__", callee) => {
                Ok(crossing(1, push()))
            }
            Opcode::CallIntrinsic1
                if argument == UNARY_POSITIVE && method(value(1)?, c"__pos__", callee) =>
            {
                Ok(crossing(1, push()))
            }
            Opcode::UnaryNot | Opcode::ToBool if method(value(1)?, c"__bool__", callee) => {
                Ok(crossing(1, Then::plain(Action::Bool)))
            }
            Opcode::PopJumpForwardIfFalse
            | Opcode::PopJumpForwardIfTrue
            | Opcode::PopJumpBackwardIfFalse
            | Opcode::PopJumpBackwardIfTrue
            | Opcode::PopJumpIfFalse
            | Opcode::PopJumpIfTrue
                if method(value(1)?, c"__bool__", callee) =>
            {
                Ok(crossing(1, Then::plain(Action::Branch)))
            }
            Opcode::JumpIfFalseOrPop | Opcode::JumpIfTrueOrPop
                if method(value(1)?, c"__bool__", callee) =>
            {
                Ok(crossing(0, Then::plain(Action::Branch)))
            }
            Opcode::GetIter | Opcode::GetYieldFromIter
                if method(value(1)?, c"__iter__", callee) =>
            {
                Ok(crossing(1, Then::plain(Action::Iterator)))
            }
            Opcode::GetAwaitable if method(value(1)?, c"__await__", callee) => {
                Ok(crossing(1, Then::plain(Action::Await)))
            }
            Opcode::LoadAttr | Opcode::LoadMethod => {
                let (name, is_called) = if kind == Opcode::LoadMethod {
                    (instruction.argument, true)
                } else {
                    attribute(instruction.argument)
                };
                let then = load_attribute(value(1)?, name_of(code, name), is_called, callee);
                Ok(crossing(1, then.ok_or_else(refused)?))
            }
            Opcode::StoreAttr | Opcode::DeleteAttr => {
                let store = kind == Opcode::StoreAttr;
                let name = name_of(code, instruction.argument);
                if !changes_attribute(value(1)?, name, store, callee) {
                    return Err(refused());
                }
                Ok(crossing(1 + usize::from(store), Then::plain(Action::Drop)))
            }
            Opcode::BeforeWith => {
                let top = enter(value(1)?, callee).ok_or_else(refused)?;
                Ok(Crossing {
                    top: Some(top),
                    ..crossing(0, push())
                })
            }
            Opcode::WithExceptStart if is_method_of(value(4)?, callee) => Ok(crossing(0, push())),
            _ => Err(refused()),
        }
    }
}

/// `CALL_INTRINSIC_1` with this argument is `+x`.
const UNARY_POSITIVE: usize = 5;

/// A name of a code object, borrowed.
///
/// # Safety
/// See the crate; the analysis has checked the index.
unsafe fn name_of(code: *mut Code, index: u32) -> *mut PyObject {
    // SAFETY: passed on; `co_names` is a tuple.
    unsafe { PyTuple_GET_ITEM((*code).names, index as isize) }
}

/// # Safety
/// See the crate.
unsafe fn is_method_of(object: *mut PyObject, callee: Callee) -> bool {
    // SAFETY: passed on.
    unsafe { is_bound(object) && callee.is(PyMethod_Function(object)) }
}

/// # Safety
/// See the crate; null is nothing.
unsafe fn is_bound(object: *mut PyObject) -> bool {
    // SAFETY: passed on.
    unsafe { !object.is_null() && Py_TYPE(object) == &raw mut PyMethod_Type }
}

/// A call: `operands` are the callable, what is beside it, and the arguments.
///
/// # Safety
/// See the crate.
unsafe fn call(kind: Opcode, operands: &[*mut PyObject], callee: Callee) -> Option<Then> {
    let (first, second) = (operands[0], operands[1]);
    let (callable, object) = if cfg!(Py_3_13) {
        (first, second)
    } else if first.is_null() {
        (second, first)
    } else {
        (first, second)
    };
    let mut arguments: Vec<_> = (!object.is_null()).then_some(object).into_iter().collect();
    // SAFETY: the operands are those of a call.
    unsafe {
        if kind == Opcode::CallFunctionEx {
            let tuple = operands[2];
            // It is a tuple already, or a new one that nobody can see; then nothing is known.
            if !tuple.is_null() && PyTuple_CheckExact(tuple) != 0 {
                let count = PyTuple_GET_SIZE(tuple);
                arguments.extend((0..count).map(|index| PyTuple_GET_ITEM(tuple, index)));
            }
        } else {
            arguments.extend(&operands[2..]);
        }
        if callable.is_null() {
            return None;
        }
        resolve(callable, &arguments, callee, 8)
    }
}

/// Whether the result of a call of `callable` is that of `callee`.
///
/// # Safety
/// See the crate.
pub(super) unsafe fn calls(callable: *mut PyObject, callee: Callee) -> bool {
    // SAFETY: passed on.
    let then = unsafe { resolve(callable, &[], callee, 8) };
    then.is_some_and(|then| then.action == Action::Push)
}

/// What becomes of the result of `callee` when `callable` was called.
///
/// # Safety
/// See the crate.
unsafe fn resolve(
    callable: *mut PyObject,
    arguments: &[*mut PyObject],
    callee: Callee,
    depth: u32,
) -> Option<Then> {
    let push = || Some(Then::plain(Action::Push));
    let depth = depth.checked_sub(1)?;
    // SAFETY: passed on.
    unsafe {
        if callee.is(callable) {
            return push();
        }
        if let Callee::Generator(generator) = callee {
            return drives(callable, arguments, generator);
        }
        if is_bound(callable) {
            return resolve(PyMethod_Function(callable), arguments, callee, depth);
        }
        let first = callee.first();
        if let Callee::Function { function, .. } = callee {
            // A bound method or a `partial` that is called from C code puts its object, or its only
            // argument, into the slot below its arguments for the time of the call: that of the
            // callable (in 3.13 only if the slot beside it is in use, as for `__exit__`).
            if first == callable && (has_method(callable, function) || is_no_wrapper(callable)) {
                return push();
            }
            if PyType_Check(callable) != 0 {
                let class: *mut PyTypeObject = callable.cast();
                if is_function(lookup(callable, c"__call__"), callee) {
                    return push();
                }
                if !first.is_null()
                    && lookup_in(class, c"__init__") == function
                    && PyType_IsSubtype(Py_TYPE(first), class) != 0
                {
                    return Some(Then {
                        action: Action::Init,
                        operands: vec![Owned::new(first)?],
                    });
                }
                return None;
            }
            if is_partial(callable) {
                let inner = Owned::taking(PyObject_GetAttrString(callable, c"func".as_ptr()))?;
                return resolve(inner.as_ptr(), arguments, callee, depth);
            }
            let call = lookup(callable, c"__call__");
            if is_function(call, callee) {
                return push();
            }
        }
        if Py_TYPE(callable) == static_method() {
            let inner = Owned::taking(PyObject_GetAttrString(callable, c"__func__".as_ptr()))?;
            return resolve(inner.as_ptr(), arguments, callee, depth);
        }
        None
    }
}

fn static_method() -> *mut PyTypeObject {
    unsafe extern "C" {
        static mut PyStaticMethod_Type: PyTypeObject;
    }
    &raw mut PyStaticMethod_Type
}

/// Whether an object or its class has this function as a method.
///
/// # Safety
/// See the crate.
unsafe fn has_method(object: *mut PyObject, function: *mut PyObject) -> bool {
    // SAFETY: passed on; the name of a function is a string.
    unsafe {
        let name: *mut PyObject = (*function.cast::<pyo3_ffi::PyFunctionObject>()).func_name;
        let callee = Callee::Function {
            function,
            first: std::ptr::null_mut(),
        };
        if is_function(_PyType_Lookup(Py_TYPE(object), name), callee) {
            return true;
        }
        if PyType_Check(object) != 0 && is_function(_PyType_Lookup(object.cast(), name), callee) {
            return true;
        }
        // Under another name, or only in the object itself.
        let code: *mut Code = (*function.cast::<pyo3_ffi::PyFunctionObject>())
            .func_code
            .cast();
        is_function(_PyType_Lookup(Py_TYPE(object), (*code).name), callee)
    }
}

/// Whether an object is none that could have called a function by C code of its own.
///
/// # Safety
/// See the crate.
unsafe fn is_no_wrapper(object: *mut PyObject) -> bool {
    // SAFETY: passed on.
    unsafe {
        let class = Py_TYPE(object);
        // What has a `__call__` in Python would have been entered there.
        let call = lookup(object, c"__call__");
        (*class).tp_call.is_none()
            || (!call.is_null() && Py_TYPE(call) == &raw mut pyo3_ffi::PyFunction_Type)
            || class == &raw mut pyo3_ffi::PyFunction_Type
            || class == &raw mut pyo3_ffi::PyCFunction_Type
    }
}

/// # Safety
/// See the crate.
unsafe fn is_partial(object: *mut PyObject) -> bool {
    // SAFETY: the name of a type is a C string. A subclass may call in another way.
    unsafe { CStr::from_ptr((*Py_TYPE(object)).tp_name) == c"functools.partial" }
}

/// A call that runs a generator on: `next(generator[, default])`, `generator.send(value)`,
/// `generator.__next__()`.
///
/// # Safety
/// See the crate.
unsafe fn drives(
    callable: *mut PyObject,
    arguments: &[*mut PyObject],
    generator: *mut PyObject,
) -> Option<Then> {
    // SAFETY: passed on.
    unsafe {
        let name = Owned::taking(PyObject_GetAttrString(callable, c"__name__".as_ptr()));
        let Some(name) = name else {
            PyErr_Clear();
            return None;
        };
        if pyo3_ffi::PyUnicode_Check(name.as_ptr()) == 0 {
            return None;
        }
        let text = PyUnicode_AsUTF8(name.as_ptr());
        if text.is_null() {
            PyErr_Clear();
            return None;
        }
        let text = CStr::from_ptr(text);
        let builtin = PyCFunction_Check(callable) != 0;
        let object = if builtin {
            pyo3_ffi::PyCFunction_GetSelf(callable)
        } else {
            std::ptr::null_mut()
        };
        let is_method = object == generator
            || (arguments.first() == Some(&generator) && lookup(generator, text) == callable);
        if is_method && (text == c"send" || text == c"__next__") {
            return Some(Then::plain(Action::Next));
        }
        let is_wrapper = CStr::from_ptr((*Py_TYPE(callable)).tp_name) == c"method-wrapper";
        if is_wrapper && text == c"__next__" {
            let bound = Owned::taking(PyObject_GetAttrString(callable, c"__self__".as_ptr()))?;
            return (bound.as_ptr() == generator).then(|| Then::plain(Action::Next));
        }
        if builtin && text == c"next" && arguments.first() == Some(&generator) {
            // Of the module `builtins`, whose functions have it as their object.
            let module = Owned::taking(PyObject_GetAttrString(callable, c"__module__".as_ptr()))?;
            let text = PyUnicode_AsUTF8(module.as_ptr());
            if text.is_null() || CStr::from_ptr(text) != c"builtins" {
                PyErr_Clear();
                return None;
            }
            let default = arguments.get(1).and_then(|&default| Owned::new(default));
            return Some(Then {
                action: Action::Next,
                operands: default.into_iter().collect(),
            });
        }
        None
    }
}

/// A binary operation.
///
/// # Safety
/// See the crate.
unsafe fn binary(
    argument: u32,
    left: *mut PyObject,
    right: *mut PyObject,
    callee: Callee,
) -> Option<Then> {
    let (in_place, forward, reflected) = binary_names(argument)?;
    let first = callee.first();
    let c = |name: String| std::ffi::CString::new(name).ok();
    // SAFETY: passed on.
    unsafe {
        let stage = if let Some(name) = in_place.and_then(c)
            && first == left
            && method(left, &name, callee)
        {
            0
        } else if first == left && method(left, &c(forward)?, callee) {
            1
        } else if first == right && method(right, &c(reflected)?, callee) {
            2
        } else {
            return None;
        };
        operation(Action::Binary, left, right, stage)
    }
}

/// # Safety
/// See the crate.
unsafe fn compare(
    argument: u32,
    left: *mut PyObject,
    right: *mut PyObject,
    callee: Callee,
) -> Option<Then> {
    let (name, reflected) = comparison_names(comparison(argument))?;
    let first = callee.first();
    // SAFETY: passed on.
    unsafe {
        let stage = if first == left && method(left, name, callee) {
            1
        } else if first == right && method(right, reflected, callee) {
            2
        } else {
            return None;
        };
        operation(Action::Compare, left, right, stage)
    }
}

/// # Safety
/// See the crate.
unsafe fn operation(
    action: Action,
    left: *mut PyObject,
    right: *mut PyObject,
    stage: i64,
) -> Option<Then> {
    // SAFETY: passed on.
    unsafe {
        Some(Then {
            action,
            operands: vec![
                Owned::new(left)?,
                Owned::new(right)?,
                Owned::taking(pyo3_ffi::PyLong_FromLong(stage as _))?,
            ],
        })
    }
}

/// What becomes of the value of an attribute of `object`: if its type has `__getattr__`, an
/// `AttributeError` is not the end.
///
/// # Safety
/// See the crate.
pub(super) unsafe fn attribute_of(object: *mut PyObject, is_called: bool) -> Then {
    // SAFETY: passed on.
    unsafe {
        let fallback = if object.is_null() {
            std::ptr::null_mut()
        } else {
            lookup(object, c"__getattr__")
        };
        let (plain, with_fallback) = if is_called {
            (Action::PushCallable, Action::CallableAttribute)
        } else {
            (Action::Push, Action::Attribute)
        };
        match Owned::new(object) {
            Some(object) if !fallback.is_null() => Then {
                action: with_fallback,
                operands: vec![object],
            },
            _ => Then::plain(plain),
        }
    }
}

/// # Safety
/// See the crate.
unsafe fn load_attribute(
    object: *mut PyObject,
    name: *mut PyObject,
    is_called: bool,
    callee: Callee,
) -> Option<Then> {
    // SAFETY: passed on; descriptors live on in their classes.
    unsafe {
        let plain = || {
            Then::plain(if is_called {
                Action::PushCallable
            } else {
                Action::Push
            })
        };
        if method(object, c"__getattr__", callee) {
            return Some(plain());
        }
        if PyModule_Check(object) != 0 {
            let dict = PyModule_GetDict(object);
            let found = pyo3_ffi::PyDict_GetItemString(dict, c"__getattr__".as_ptr());
            return callee.is(found).then(plain);
        }
        let then = || Some(attribute_of(object, is_called));
        if method(object, c"__getattribute__", callee) {
            return then();
        }
        let descriptor = _PyType_Lookup(Py_TYPE(object), name);
        if gets(descriptor, callee) {
            return then();
        }
        if PyType_Check(object) != 0 && gets(_PyType_Lookup(object.cast(), name), callee) {
            return then();
        }
        None
    }
}

/// Whether reading a descriptor calls what is waited for.
///
/// # Safety
/// See the crate; null is nothing.
unsafe fn gets(descriptor: *mut PyObject, callee: Callee) -> bool {
    // SAFETY: passed on.
    unsafe {
        if descriptor.is_null() {
            return false;
        }
        if PyType_IsSubtype(Py_TYPE(descriptor), &raw mut PyProperty_Type) != 0
            && attribute_is(descriptor, c"fget", callee)
        {
            return true;
        }
        method(descriptor, c"__get__", callee)
    }
}

/// Whether setting or deleting an attribute calls what is waited for.
///
/// # Safety
/// See the crate.
unsafe fn changes_attribute(
    object: *mut PyObject,
    name: *mut PyObject,
    store: bool,
    callee: Callee,
) -> bool {
    let (of_object, of_property, of_descriptor) = if store {
        (c"__setattr__", c"fset", c"__set__")
    } else {
        (c"__delattr__", c"fdel", c"__delete__")
    };
    // SAFETY: passed on.
    unsafe {
        if method(object, of_object, callee) {
            return true;
        }
        let descriptor = _PyType_Lookup(Py_TYPE(object), name);
        if descriptor.is_null() {
            return false;
        }
        (PyType_IsSubtype(Py_TYPE(descriptor), &raw mut PyProperty_Type) != 0
            && attribute_is(descriptor, of_property, callee))
            || method(descriptor, of_descriptor, callee)
    }
}

/// `__enter__` of a `with`: the bound `__exit__` that lies on the stack afterwards.
///
/// # Safety
/// See the crate.
unsafe fn enter(top: *mut PyObject, callee: Callee) -> Option<Owned> {
    // SAFETY: passed on.
    unsafe {
        if cfg!(Py_3_12) {
            // It is held by C code alone: looked up again.
            if !method(top, c"__enter__", callee) {
                return None;
            }
            let exit = lookup(top, c"__exit__");
            let plain = !exit.is_null() && Py_TYPE(exit) == &raw mut pyo3_ffi::PyFunction_Type;
            return plain
                .then(|| Owned::taking(PyMethod_New(exit, top)))
                .flatten();
        }
        // It has taken the place of the manager already.
        let fits = is_bound(top) && method(PyMethod_Self(top), c"__enter__", callee);
        fits.then(|| Owned::new(top)).flatten()
    }
}
