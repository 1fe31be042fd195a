//! The methods behind `BINARY_OP` and `COMPARE_OP`.

use std::ffi::CStr;

/// `BINARY_OP`'s argument: names of the methods. From 13 on in place.
const BINARY: [&CStr; 13] = [
    c"add",
    c"and",
    c"floordiv",
    c"lshift",
    c"matmul",
    c"mul",
    c"mod",
    c"or",
    c"pow",
    c"rshift",
    c"sub",
    c"truediv",
    c"xor",
];
/// Comparisons in the order of CPython, and their reflections.
const COMPARISONS: [(&CStr, usize); 6] = [
    (c"__lt__", 4),
    (c"__le__", 5),
    (c"__eq__", 2),
    (c"__ne__", 3),
    (c"__gt__", 0),
    (c"__ge__", 1),
];

/// The method names of a binary operation: in place (null if it is not), forward, reflected.
pub(super) fn binary_names(argument: u32) -> Option<(Option<String>, String, String)> {
    let index = argument as usize;
    let name = BINARY.get(index % BINARY.len())?.to_str().ok()?;
    (index < 2 * BINARY.len()).then(|| {
        (
            (index >= BINARY.len()).then(|| format!("__i{name}__")),
            format!("__{name}__"),
            format!("__r{name}__"),
        )
    })
}

/// The number of a comparison, from the argument of `COMPARE_OP`.
pub(super) const fn comparison(argument: u32) -> usize {
    (if cfg!(Py_3_13) {
        argument >> 5
    } else if cfg!(Py_3_12) {
        argument >> 4
    } else {
        argument
    }) as usize
}

/// The names of a comparison and of its reflection.
pub(super) fn comparison_names(number: usize) -> Option<(&'static CStr, &'static CStr)> {
    let (name, reflected) = COMPARISONS.get(number)?;
    Some((name, COMPARISONS[*reflected].0))
}
