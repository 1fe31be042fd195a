//! Whether the operands of an operation are among those that the filter asks for. What depends on
//! the source only is decided when a plan is made.

use objspace_interp::observe::{self, RunningFrame};
use pyo3::ffi;

use super::super::naming::class_name;
use super::super::plan::{LEAVE, NOWHERE, Name, OPERATION, Operands, PREFIX, Unit};
use super::Recorder;
use super::plans::unit_of;

impl Recorder {
    /// Whether an instruction can be told at once to be none of those that the filter asks for, and
    /// to change nothing that is known. False says nothing.
    ///
    /// # Safety
    /// As [`instruction`](Self::instruction).
    #[inline]
    pub(in crate::dump) unsafe fn is_unwanted(
        &self,
        state: *mut ffi::PyThreadState,
        frame: RunningFrame,
        code: *mut ffi::PyObject,
        unit: u32,
    ) -> bool {
        if !self.looks_at_types_only || state != self.current_state || self.last_plan.0 != code {
            return false;
        }
        // SAFETY: `switch` has set the thread; the plan is that of the code that runs, and says
        // which slots are live.
        unsafe {
            let Some(this) = unit_of(self.last_plan.1, unit) else {
                return false;
            };
            let thread = &*self.current;
            let top = thread
                .frames
                .last()
                .filter(|top| top.frame == frame && top.code == code);
            let changes_nothing = match top {
                Some(top) => top.pending == NOWHERE && this.flags & LEAVE == 0,
                None => thread.stranger == (frame, code),
            };
            if !changes_nothing {
                return false;
            }
            if this.flags & OPERATION == 0 {
                return this.flags != 0 && this.flags != PREFIX;
            }
            let types = &self.types;
            let wanted_or_new = |object: *mut ffi::PyObject| {
                !object.is_null() && types.known(ffi::Py_TYPE(object)) != Some(false)
            };
            !any_operand(frame, this, wanted_or_new)
        }
    }

    /// Whether the operands are among those that the filter asks for.
    pub(super) unsafe fn wants(&mut self, frame: RunningFrame, this: &Unit) -> bool {
        // SAFETY: as in `instruction`.
        unsafe {
            if !self.filter.objects.is_empty() {
                let objects = &self.filter.objects;
                let wanted = |object: *mut ffi::PyObject| objects.contains(&(object as usize));
                if !any_operand(frame, this, wanted) {
                    return false;
                }
            }
            if !self.filter.types.is_empty() {
                let (types, filter) = (&mut self.types, &self.filter);
                let wanted = |object: *mut ffi::PyObject| {
                    if object.is_null() {
                        return false;
                    }
                    let class = ffi::Py_TYPE(object);
                    match types.known(class) {
                        Some(known) => known,
                        None => types.is_one_of(class, &filter.types),
                    }
                };
                if !any_operand(frame, this, wanted) {
                    return false;
                }
            }
            if !self.filter.attributes.is_empty() {
                // The receiver is on top, for reading, writing and deleting alike.
                let class = ffi::Py_TYPE(frame.slot(this.top - 1));
                let (asked, answer) = this.asked.get();
                if asked == class as usize {
                    return answer;
                }
                let answer = self.attribute_types(class, this.name, frame);
                // The answer is for as long as there is no other type at that address.
                self.types.keep(class);
                this.asked.set((class as usize, answer));
                return answer;
            }
            true
        }
    }

    unsafe fn attribute_types(
        &mut self,
        class: *mut ffi::PyTypeObject,
        name: Name,
        frame: RunningFrame,
    ) -> bool {
        // SAFETY: as in `instruction`.
        unsafe {
            let facts = observe::facts(frame.code());
            let name = self.name_of(&facts, name);
            let owners: Vec<&str> = self
                .filter
                .attributes
                .iter()
                .filter(|(_, attribute)| Some(attribute.as_str()) == name.as_deref())
                .map(|(owner, _)| owner.as_deref().unwrap_or(""))
                .collect();
            if owners.contains(&"") {
                return true;
            }
            // The class itself is asked for its attributes too.
            let mut mro_names = Vec::new();
            let order = (*class).tp_mro;
            if order.is_null() {
                return false;
            }
            for index in 0..ffi::PyTuple_GET_SIZE(order) {
                mro_names.clear();
                class_name(ffi::PyTuple_GET_ITEM(order, index).cast(), &mut mro_names);
                let path = String::from_utf8_lossy(&mro_names);
                if owners.iter().any(|owner| {
                    path.strip_suffix(owner)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }) {
                    return true;
                }
            }
            false
        }
    }
}

/// Whether something holds for an operand, of those that may be recorded or not; some may be null.
#[inline]
unsafe fn any_operand(
    frame: RunningFrame,
    this: &Unit,
    mut holds: impl FnMut(*mut ffi::PyObject) -> bool,
) -> bool {
    let (top, count) = (this.top, u32::from(this.count));
    // SAFETY: the operands of an instruction are live before it.
    unsafe {
        match this.operands {
            // What is added to a container lies above it, with other things in between.
            Operands::At(places) => places[..usize::from(this.count)]
                .iter()
                .any(|&distance| holds(frame.slot(top - u32::from(distance)))),
            // The names of keywords are part of the instruction.
            Operands::Call if cfg!(Py_3_13) && matches!(this.name, Name::Keywords(_)) => {
                (top - count..top - 1).any(|slot| holds(frame.slot(slot)))
            }
            _ => (top - count..top).any(|slot| holds(frame.slot(slot))),
        }
    }
}
