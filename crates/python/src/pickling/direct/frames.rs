//! Generators and the like, continuations, and what they refer to: code, globals, cells, functions,
//! classes, modules, methods. In the form that `reduce` of each of these describes.

use pyo3::prelude::*;
use pyo3::types::{PyCode, PyDict, PyModule, PyString, PyType};
use pyo3::{PyTypeInfo, ffi, intern};

use super::iterators::is_dispatched;
use super::names::Maker;
use super::{Unfit, Writer, Written, opcode};
use crate::pickling::frames::chain::{self, Continuation};
use crate::pickling::frames::null::Null;
use crate::pickling::frames::suspended::{self, Head};
use crate::pickling::globals::{self, Globals};
use crate::pickling::{code, maker, reducer};

unsafe extern "C" {
    /// Public, but not declared by `pyo3-ffi`.
    static mut PyMethod_Type: ffi::PyTypeObject;
}

impl<'py> Writer<'py> {
    /// Writes an object that is no value of a builtin type.
    pub(super) fn other(&mut self, object: &Bound<'py, PyAny>) -> Written {
        let py = self.py;
        let class = object.get_type_ptr();
        if self.registered && reducer::is_registered(&object.get_type())? {
            return Err(Unfit);
        }
        if class == &raw mut ffi::PyGen_Type
            || class == &raw mut ffi::PyCoro_Type
            || class == &raw mut ffi::PyAsyncGen_Type
        {
            return self.suspended(object);
        }
        if class == &raw mut ffi::PyCode_Type {
            return self.code(object.cast().map_err(|_| Unfit)?);
        }
        if class == Null::type_object_raw(py) {
            self.maker(Maker::Null)?;
            return Ok(());
        }
        if class == Globals::type_object_raw(py) {
            let globals = object.cast::<Globals>().map_err(|_| Unfit)?;
            return self.globals(globals.get().dict.bind(py));
        }
        if class == Continuation::type_object_raw(py) {
            return self.continuation(object.cast().map_err(|_| Unfit)?);
        }
        if class == &raw mut ffi::PyFunction_Type {
            return self.named(object);
        }
        if class == &raw mut ffi::PyCFunction_Type {
            return self.builtin(object);
        }
        if class == &raw mut ffi::PyType_Type {
            return self.class(object.cast().map_err(|_| Unfit)?);
        }
        if class == &raw mut ffi::PyModule_Type {
            return self.module(object.cast().map_err(|_| Unfit)?);
        }
        if class == &raw mut ffi::PyCell_Type {
            return self.cell(object);
        }
        if class == &raw mut PyMethod_Type {
            return self.method(object);
        }
        self.iterator(object, &object.get_type())
    }

    fn suspended(&mut self, object: &Bound<'py, PyAny>) -> Written {
        let running = &self.running;
        let in_chain = running.iter().find(|(known, _)| known.is(object));
        let in_chain = in_chain.map(|(_, globals)| globals.clone());
        let head = Head::of(object, in_chain)?;
        self.maker(Maker::MakeSuspended)?;
        if head.names.is_some() {
            self.put(opcode::MARK);
        }
        self.int(i64::from(head.tag));
        if !self.again(head.code.as_ptr() as usize) {
            self.code(&head.code)?;
        }
        match &head.globals {
            Some(globals) => self.globals(globals)?,
            None => self.put(opcode::NONE),
        }
        if let Some(names) = &head.names {
            for name in names {
                self.object(name)?;
            }
            self.put(opcode::TUPLE);
        } else {
            self.put(opcode::TUPLE3);
        }
        self.put(opcode::REDUCE);
        self.remember(object);
        if !head.state {
            return Ok(());
        }
        let (numbers, values) = suspended::state(object).ok_or(Unfit)?;
        self.maker(Maker::SetSuspended)?;
        self.again(object.as_ptr() as usize);
        self.put(opcode::MARK);
        for number in numbers {
            self.int(number);
        }
        for value in &values {
            match value {
                Some(value) => self.object(value)?,
                None => self.maker(Maker::Null)?,
            }
        }
        self.put(opcode::TUPLE);
        self.call_setter();
        Ok(())
    }

    /// Calls a function, the object and its state being on the stack above it.
    fn call_setter(&mut self) {
        self.out
            .extend([opcode::TUPLE2, opcode::REDUCE, opcode::POP]);
    }

    fn continuation(&mut self, object: &Bound<'py, Continuation>) -> Written {
        let state = chain::plain_state(object).map_err(|()| Unfit)?;
        if let Some(state) = &state {
            self.running.extend(chain::running(state)?);
        }
        self.maker(Maker::MakeContinuation)?;
        let class = object.get_type();
        if !self.again(class.as_ptr() as usize) {
            self.named(class.as_any())?;
        }
        self.out.extend([opcode::TUPLE1, opcode::REDUCE]);
        self.remember(object.as_any());
        self.maker(Maker::SetContinuation)?;
        self.again(object.as_ptr() as usize);
        match &state {
            Some(state) => self.object(state.as_any())?,
            None => self.put(opcode::NONE),
        }
        self.out.extend([opcode::NONE, opcode::TUPLE2]);
        self.call_setter();
        Ok(())
    }

    fn code(&mut self, code: &Bound<'py, PyCode>) -> Written {
        let (place, module) = code::place(code)?.map_err(|_| Unfit)?;
        self.maker(Maker::CodeReference)?;
        self.text(place.module.bind(self.py).to_str()?)?;
        self.text(place.qualname.bind(self.py).to_str()?)?;
        self.bytes(&place.hash)?;
        self.out.extend([opcode::TUPLE3, opcode::REDUCE]);
        self.remember(code.as_any());
        self.module = Some((module, place.module.bind(self.py).clone()));
        Ok(())
    }

    /// The globals of a module. As globals a dict is another thing than as a value.
    fn globals(&mut self, dict: &Bound<'py, PyDict>) -> Written {
        let key = dict.as_ptr() as usize | 1;
        if self.again(key) {
            return Ok(());
        }
        let name = match self.name_of_last_module(dict)? {
            Some(name) => name,
            None => globals::importable(dict, self.mode)?.ok_or(Unfit)?,
        };
        self.maker(Maker::ModuleGlobals)?;
        self.text(name.to_str()?)?;
        self.out
            .extend([opcode::TUPLE1, opcode::REDUCE, opcode::MEMOIZE]);
        self.memo.add(key, dict.as_any());
        Ok(())
    }

    /// The name of the module whose code was written last, if these are its globals. It has a spec, is
    /// not `__main__`, and is the one of that name: what `importable` asks for.
    fn name_of_last_module(
        &self,
        dict: &Bound<'py, PyDict>,
    ) -> Result<Option<Bound<'py, PyString>>, Unfit> {
        let Some((module, name)) = &self.module else {
            return Ok(None);
        };
        let Ok(module) = module.cast_exact::<PyModule>() else {
            return Ok(None);
        };
        let own = dict.get_item(intern!(self.py, "__name__"))?;
        let same = module.dict().is(dict)
            && own
                .and_then(|own| own.cast_into_exact::<PyString>().ok())
                .is_some_and(|own| own.is(name) || own.to_str().ok() == name.to_str().ok());
        Ok(same.then(|| name.clone()))
    }

    /// A function of a C module; methods of objects are another thing.
    fn builtin(&mut self, object: &Bound<'py, PyAny>) -> Written {
        let owner = object.getattr(intern!(self.py, "__self__"))?;
        let of_module = owner.is_none() || owner.get_type_ptr() == &raw mut ffi::PyModule_Type;
        if !of_module || is_dispatched(&object.get_type())? {
            return Err(Unfit);
        }
        self.named(object)
    }

    fn class(&mut self, class: &Bound<'py, PyType>) -> Written {
        self.named(class.as_any())
    }

    fn module(&mut self, module: &Bound<'py, PyModule>) -> Written {
        let name = module.name()?;
        let found = maker::modules(self.py)?.get_item(&name)?;
        if !found.is(module) {
            return Err(Unfit);
        }
        self.maker(Maker::ImportModule)?;
        self.text(name.to_str()?)?;
        self.out.extend([opcode::TUPLE1, opcode::REDUCE]);
        self.remember(module.as_any());
        Ok(())
    }

    fn cell(&mut self, cell: &Bound<'py, PyAny>) -> Written {
        self.maker(Maker::MakeCell)?;
        self.out.extend([opcode::EMPTY_TUPLE, opcode::REDUCE]);
        self.remember(cell);
        // SAFETY: attached; it is a cell. The result is a new reference, or null without an exception.
        let contents = unsafe {
            let contents = ffi::PyCell_Get(cell.as_ptr());
            Bound::from_owned_ptr_or_opt(self.py, contents)
        };
        let Some(contents) = contents else {
            return Ok(());
        };
        self.maker(Maker::SetCell)?;
        self.again(cell.as_ptr() as usize);
        self.object(&contents)?;
        self.call_setter();
        Ok(())
    }

    fn method(&mut self, method: &Bound<'py, PyAny>) -> Written {
        let py = self.py;
        let (function, object) = (
            method.getattr(intern!(py, "__func__"))?,
            method.getattr(intern!(py, "__self__"))?,
        );
        self.maker(Maker::MakeMethod)?;
        self.object(&function)?;
        self.object(&object)?;
        if self.memo.get(method.as_ptr() as usize).is_some() {
            return Err(Unfit);
        }
        self.out.extend([opcode::TUPLE2, opcode::REDUCE]);
        self.remember(method);
        Ok(())
    }
}
