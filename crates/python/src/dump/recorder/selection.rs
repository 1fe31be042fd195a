//! Whether the operands of an operation are among those that the filter asks for. What depends on
//! the source only is decided when a plan is made.

use objspace_interp::observe::{self, RunningFrame};
use pyo3::ffi;

use super::super::naming::class_name;
use super::super::plan::{Name, Operands, Unit};
use super::Recorder;

impl Recorder {
    /// Whether the operands are among those that the filter asks for.
    pub(super) unsafe fn wants(&mut self, frame: RunningFrame, this: &Unit) -> bool {
        // SAFETY: as in `instruction`.
        unsafe {
            let base = this.top - u32::from(this.count);
            if !self.filter.objects.is_empty() {
                // Containers that are added to lie deeper than what is added.
                let deeper = match this.operands {
                    Operands::At(places) => places[..usize::from(this.count)]
                        .iter()
                        .map(|&distance| this.top - u32::from(distance))
                        .any(|slot| self.filter.objects.contains(&(frame.slot(slot) as usize))),
                    _ => false,
                };
                if !deeper
                    && !(base..this.top)
                        .any(|slot| self.filter.objects.contains(&(frame.slot(slot) as usize)))
                {
                    return false;
                }
            }
            if !self.filter.types.is_empty() {
                let mut found = false;
                for slot in base..this.top {
                    let object = frame.slot(slot);
                    if !object.is_null() {
                        let names: Vec<&str>;
                        let class = ffi::Py_TYPE(object);
                        found = match self.types.known(class) {
                            Some(known) => known,
                            None => {
                                names = self.filter.types.iter().map(String::as_str).collect();
                                self.types.is_one_of(class, &names)
                            }
                        };
                        if found {
                            break;
                        }
                    }
                }
                if !found {
                    return false;
                }
            }
            if !self.filter.attributes.is_empty() {
                // The receiver is on top, for reading, writing and deleting alike.
                let class = ffi::Py_TYPE(frame.slot(this.top - 1));
                return self.attribute_types(class, this.name, frame);
            }
            true
        }
    }

    pub(super) unsafe fn attribute_types(
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
