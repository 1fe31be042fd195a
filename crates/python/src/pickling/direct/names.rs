//! What a pickle refers to by module and name.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Unfit, Writer, Written, opcode};
use crate::pickling::maker;
use crate::pickling::objects::function;

/// The functions of this package that pickles name.
#[derive(Clone, Copy)]
pub(super) enum Maker {
    CodeReference,
    ImportModule,
    MakeCell,
    MakeContinuation,
    MakeMethod,
    MakeSuspended,
    ModuleGlobals,
    Null,
    SetCell,
    SetContinuation,
    SetSuspended,
}

const MAKERS: [&str; 11] = [
    "code_reference",
    "import_module",
    "make_cell",
    "make_continuation",
    "make_method",
    "make_suspended",
    "module_globals",
    "NULL",
    "set_cell",
    "set_continuation",
    "set_suspended",
];

/// Entries of the memo: of the module's name and of its functions.
#[derive(Default)]
pub(super) struct Names {
    module: Option<u32>,
    makers: [Option<u32>; MAKERS.len()],
}

impl<'py> Writer<'py> {
    /// Refers to a function of this package.
    pub(super) fn maker(&mut self, maker: Maker) -> Written {
        let index = maker as usize;
        if let Some(number) = self.names.makers[index] {
            self.number(number);
            return Ok(());
        }
        if let Some(number) = self.names.module {
            self.number(number);
        } else {
            self.text(maker::MODULE)?;
            self.put(opcode::MEMOIZE);
            self.names.module = Some(self.memo.add_unnamed());
        }
        self.text(MAKERS[index])?;
        self.out.extend([opcode::STACK_GLOBAL, opcode::MEMOIZE]);
        self.names.makers[index] = Some(self.memo.add_unnamed());
        Ok(())
    }

    /// Refers to an object by a name under which it was found.
    pub(super) fn global(
        &mut self,
        object: &Bound<'py, PyAny>,
        module: &str,
        qualname: &str,
    ) -> Written {
        self.text(module)?;
        self.text(qualname)?;
        self.put(opcode::STACK_GLOBAL);
        self.remember(object);
        Ok(())
    }

    /// Refers to a function or class by its own name, if it is found by that.
    pub(super) fn named(&mut self, object: &Bound<'py, PyAny>) -> Written {
        let text = |name: &str| -> Result<Bound<'py, PyString>, Unfit> {
            let text = object.getattr(name)?;
            text.cast_into_exact().map_err(|_| Unfit)
        };
        let (module, qualname) = (text("__module__")?, text("__qualname__")?);
        let (module, qualname) = (module.to_str()?, qualname.to_str()?);
        if function::named_as(object, module, qualname, self.mode)? != Some("") {
            return Err(Unfit);
        }
        self.global(object, module, qualname)
    }
}
