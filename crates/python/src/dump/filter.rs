//! Which operations are wanted.
//!
//! What depends on the source only (module, file, function, kind, name) is decided once per code
//! object or instruction, so that what is not wanted is not even reported. What depends on the
//! operands (their types, the objects themselves) is asked each time.

use std::collections::{HashMap, HashSet};

use objspace_log::Kind;
use pyo3::ffi;

use super::naming::class_name;

/// What a user asked for; everything given must hold, and nothing given means anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Modules, with what is below them.
    pub(super) modules: Vec<String>,
    /// Modules that are left out, with what is below them.
    pub(super) exclude: Vec<String>,
    /// Patterns of file paths, in which `*` stands for anything.
    pub(super) files: Vec<String>,
    /// Names or qualified names of functions.
    pub(super) functions: Vec<String>,
    pub(super) kinds: Vec<Kind>,
    /// Attributes, optionally with the name of their class: (class, attribute).
    pub(super) attributes: Vec<(Option<String>, String)>,
    /// Names of types of which an operand must be.
    pub(super) types: Vec<String>,
    /// Addresses of objects (kept alive by the recording) of which an operand must be.
    pub(super) objects: Vec<usize>,
    /// Folders whose files are never looked at: objspace itself.
    pub(super) hidden: Vec<String>,
}

impl Filter {
    /// Whether code of this file, function and module is wanted at all.
    pub(super) fn wants_code(&self, file: &str, function: &str, module: &str) -> bool {
        // A comprehension, generator expression or lambda belongs to the function around it.
        let mut function = function;
        while let Some(around) = [
            "<listcomp>",
            "<setcomp>",
            "<dictcomp>",
            "<genexpr>",
            "<lambda>",
        ]
        .iter()
        .find_map(|own| function.strip_suffix(own)?.strip_suffix(".<locals>."))
        {
            function = around;
        }
        let within = |name: &str| {
            module
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !self.hidden.iter().any(|folder| file.starts_with(folder))
            && !self.exclude.iter().any(|name| within(name))
            && (self.modules.is_empty() || self.modules.iter().any(|name| within(name)))
            && (self.files.is_empty() || self.files.iter().any(|pattern| matches(pattern, file)))
            && (self.functions.is_empty()
                || self
                    .functions
                    .iter()
                    .any(|name| is_or_ends_so(function, name)))
    }

    /// Whether an operation of this kind and name can be wanted.
    pub(super) fn wants_operation(&self, kind: Kind, name: Option<&str>) -> bool {
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return false;
        }
        self.attributes.is_empty()
            || matches!(kind, Kind::GetAttr | Kind::SetAttr | Kind::DelAttr)
                && self
                    .attributes
                    .iter()
                    .any(|(_, attribute)| name == Some(attribute))
    }

    /// Whether it is the types of operands alone that must be looked at.
    pub(super) fn looks_at_types_only(&self) -> bool {
        !self.types.is_empty() && self.objects.is_empty() && self.attributes.is_empty()
    }

    /// Whether operands must be looked at.
    pub(super) fn looks_at_operands(&self) -> bool {
        !self.types.is_empty()
            || !self.objects.is_empty()
            || self.attributes.iter().any(|(class, _)| class.is_some())
    }
}

/// How many types are found without a search.
const RECENT: usize = 256;

/// Which types are wanted, of those that were met.
pub(super) struct Types {
    /// By the address of a type, which `kept` keeps from being used again.
    known: HashMap<usize, bool>,
    /// The types met last, each at a place of its own: its address and, in the lowest bit, whether
    /// it is wanted.
    recent: Box<[usize; RECENT]>,
    held: HashSet<usize>,
    pub(super) kept: Vec<*mut ffi::PyObject>,
}

impl Default for Types {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            recent: Box::new([0; RECENT]),
            held: HashSet::new(),
            kept: Vec::new(),
        }
    }
}

impl Types {
    const fn place(class: usize) -> usize {
        (class >> 5 ^ class >> 13) % RECENT
    }

    /// Whether a type is wanted, if it was met lately.
    #[inline]
    pub(super) fn known(&self, class: *mut ffi::PyTypeObject) -> Option<bool> {
        let class = class as usize;
        let recent = self.recent[Self::place(class)];
        (recent & !1 == class).then_some(recent & 1 != 0)
    }

    /// Whether a type or one that it is derived from has one of these names.
    ///
    /// # Safety
    /// The GIL is held; `class` is a live type.
    #[cold]
    pub(super) unsafe fn is_one_of(
        &mut self,
        class: *mut ffi::PyTypeObject,
        names: &[String],
    ) -> bool {
        let is = match self.known.get(&(class as usize)) {
            Some(&is) => is,
            None => {
                // SAFETY: passed on. The method resolution order of a ready type is a tuple of
                // types.
                let is = unsafe {
                    self.keep(class);
                    let order = (*class).tp_mro;
                    let count = if order.is_null() {
                        0
                    } else {
                        ffi::PyTuple_GET_SIZE(order)
                    };
                    (0..count).any(|index| {
                        let mut name = Vec::new();
                        class_name(ffi::PyTuple_GET_ITEM(order, index).cast(), &mut name);
                        let name = String::from_utf8_lossy(&name);
                        names.iter().any(|wanted| is_or_ends_so(&name, wanted))
                    })
                };
                self.known.insert(class as usize, is);
                is
            }
        };
        self.recent[Self::place(class as usize)] = class as usize | usize::from(is);
        is
    }

    /// Keeps a type alive, so that no other one is at its address.
    ///
    /// # Safety
    /// The GIL is held; `class` is a live type.
    pub(super) unsafe fn keep(&mut self, class: *mut ffi::PyTypeObject) {
        if self.held.insert(class as usize) {
            // SAFETY: the caller's promise.
            unsafe { ffi::Py_INCREF(class.cast()) };
            self.kept.push(class.cast());
        }
    }
}

/// Whether a dotted path is a name or ends with it.
fn is_or_ends_so(path: &str, name: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a path matches a pattern with `*`; one without a slash at its beginning may match the
/// end of the path.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let parts: Vec<&str> = parts.collect();
    let starts: Vec<usize> = if pattern.starts_with('/') {
        vec![0]
    } else {
        std::iter::once(0)
            .chain(path.match_indices('/').map(|(at, _)| at + 1))
            .collect()
    };
    starts.into_iter().any(|start| {
        let Some(mut rest) = path[start..].strip_prefix(first) else {
            return false;
        };
        let Some((last, middle)) = parts.split_last() else {
            return rest.is_empty();
        };
        for part in middle {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_of_paths() {
        assert!(matches("app.py", "/home/me/app.py"));
        assert!(matches("/home/*/app.py", "/home/me/app.py"));
        assert!(matches("shop/*.py", "/home/me/shop/orders.py"));
        assert!(matches("*", "/x"));
        assert!(!matches("app.py", "/home/me/myapp.py"));
        assert!(!matches("shop/*.py", "/home/me/shop/orders.txt"));
        assert!(!matches("/me/app.py", "/home/me/app.py"));
    }
}
