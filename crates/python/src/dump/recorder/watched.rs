//! Operations on watched objects, which come through their proxies instead of the interpreter.

use objspace_interp::observe::{self, RunningFrame};
use objspace_log::raw::{self, SiteRow};
use objspace_log::{Kind, Row, Status};
use pyo3::ffi;

use super::super::plan::OPERANDS_MAX;
use super::plans::{module_of, text};
use super::{BUFFER, ROOM, Recorder};

impl Recorder {
    /// An operation begins on a watched object, through its proxy.
    ///
    /// # Safety
    /// The GIL is held by the thread that runs; the objects are alive.
    pub(in crate::dump) unsafe fn watched(
        &mut self,
        state: *mut ffi::PyThreadState,
        opname: &str,
        operands: &[*mut ffi::PyObject],
    ) {
        // SAFETY: the frames of a thread are live while the GIL is held.
        unsafe {
            self.be_in(state);
            if self.words.len() + ROOM > BUFFER {
                self.hand_over();
            }
            self.bury();
            let mut place = (String::new(), String::new(), String::new(), [0; 4]);
            if let Some(frame) = RunningFrame::find(state) {
                let facts = observe::facts(frame.code());
                place = (
                    text(facts.filename),
                    text(facts.qualname),
                    module_of(frame),
                    observe::location(frame.code(), frame.unit()),
                );
                // What is done to the proxy by a finalizer is no part of what came before.
                self.find(frame);
                self.settle_caller();
            }
            let (file, function, module, position) = place;
            let name = self.intern(opname);
            let file = self.intern(&file);
            let function = self.intern(&function);
            let key = (file, function, position, name);
            let site = match self.watch_sites.get(&key) {
                Some(&site) => site,
                None => {
                    let module = self.intern(&module);
                    raw::push_row(
                        &mut self.words,
                        &Row::Code {
                            file,
                            name: function,
                            module,
                            line: 0,
                        },
                    );
                    let code = self.codes;
                    self.codes += 1;
                    let site = self.define_site(SiteRow {
                        code,
                        kind: Kind::Watch,
                        name,
                        offset: 0,
                        position,
                    });
                    self.watch_sites.insert(key, site);
                    site
                }
            };
            self.time();
            self.operations += 1;
            let mut values = Vec::with_capacity(operands.len());
            for &operand in operands.iter().take(usize::from(OPERANDS_MAX)) {
                values.push(self.names.value(operand, &mut self.words));
            }
            self.words
                .push(raw::OPERATION | (values.len() as u64) << 8 | u64::from(site) << 32);
            for (first, second) in values {
                self.words.push(first);
                self.words.extend(second);
            }
        }
    }

    /// An operation on a watched object ends.
    ///
    /// # Safety
    /// As [`watched`](Self::watched).
    pub(in crate::dump) unsafe fn watch_ended(
        &mut self,
        state: *mut ffi::PyThreadState,
        status: Status,
        value: *mut ffi::PyObject,
    ) {
        // SAFETY: passed on.
        unsafe {
            self.be_in(state);
            if let Some(frame) = RunningFrame::find(state) {
                self.find(frame);
            }
            self.time();
            let value = self.names.value(value, &mut self.words);
            self.end(status, Some(value));
        }
    }
}
