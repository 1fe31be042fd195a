//! Which rule of copying an exact type falls under. Answers for built-in types are remembered.

use std::cell::RefCell;
use std::collections::HashMap;

use objspace_proto::{Kind, StructKind};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::named;

/// How the objects of one exact type travel, if they are not among the plain values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Copied, as a standard-library value.
    Value(StructKind),
    /// By reference; the type is known by number.
    Builtin(Kind),
    /// By reference; the type is known by name on both sides.
    Named,
    /// By reference; the type is a class that must be described.
    Described,
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::LIST, "list"),
    (Kind::DICT, "dict"),
    (Kind::SET, "set"),
    (Kind::FROZENSET, "frozenset"),
    (Kind::TUPLE, "tuple"),
    (Kind::BYTEARRAY, "bytearray"),
    (Kind::MEMORYVIEW, "memoryview"),
    (Kind::FUNCTION, "function"),
    (Kind::METHOD, "method"),
    (Kind::BUILTIN, "builtin_function_or_method"),
    (Kind::MODULE, "module"),
    (Kind::GENERATOR, "generator"),
    (Kind::COROUTINE, "coroutine"),
    (Kind::ASYNC_GENERATOR, "async_generator"),
    (Kind::FRAME, "frame"),
    (Kind::CODE, "code"),
    (Kind::TRACEBACK, "traceback"),
    (Kind::PROPERTY, "property"),
];

const VALUES: &[(StructKind, &str, &str)] = &[
    (StructKind::DATE, "datetime", "date"),
    (StructKind::TIME, "datetime", "time"),
    (StructKind::DATETIME, "datetime", "datetime"),
    (StructKind::TIMEDELTA, "datetime", "timedelta"),
    (StructKind::TIMEZONE, "datetime", "timezone"),
    (StructKind::ZONEINFO, "zoneinfo", "ZoneInfo"),
    (StructKind::DECIMAL, "decimal", "Decimal"),
    (StructKind::FRACTION, "fractions", "Fraction"),
    (StructKind::UUID, "uuid", "UUID"),
    (StructKind::PURE_POSIX_PATH, "pathlib", "PurePosixPath"),
    (StructKind::PURE_WINDOWS_PATH, "pathlib", "PureWindowsPath"),
    (StructKind::IPV4_ADDRESS, "ipaddress", "IPv4Address"),
    (StructKind::IPV6_ADDRESS, "ipaddress", "IPv6Address"),
    (StructKind::IPV4_NETWORK, "ipaddress", "IPv4Network"),
    (StructKind::IPV6_NETWORK, "ipaddress", "IPv6Network"),
    (StructKind::IPV4_INTERFACE, "ipaddress", "IPv4Interface"),
    (StructKind::IPV6_INTERFACE, "ipaddress", "IPv6Interface"),
];

thread_local! {
    /// Types are kept alive here, so that an address always means the same type.
    static RULES: RefCell<HashMap<usize, (Py<PyType>, Rule)>> = RefCell::new(HashMap::new());
}

/// The rule of an exact type.
pub(crate) fn rule_of(class: &Bound<'_, PyType>) -> PyResult<Rule> {
    let key = class.as_ptr() as usize;
    if let Some(rule) = RULES.with_borrow(|rules| rules.get(&key).map(|(_, rule)| *rule)) {
        return Ok(rule);
    }
    let rule = find_rule(class)?;
    // Described classes come and go; remembering them would keep them for ever.
    if rule != Rule::Described {
        RULES.with_borrow_mut(|rules| rules.insert(key, (class.clone().unbind(), rule)));
    }
    Ok(rule)
}

fn find_rule(class: &Bound<'_, PyType>) -> PyResult<Rule> {
    let Some((module, qualname)) = named::name_of(class)? else {
        return Ok(Rule::Described);
    };
    if module == "builtins"
        && let Some((kind, _)) = KINDS.iter().find(|(_, name)| *name == qualname)
    {
        return Ok(Rule::Builtin(*kind));
    }
    let public_module = match &*module {
        "pathlib._local" => "pathlib",
        "_decimal" => "decimal",
        other => other,
    };
    if let Some((kind, ..)) = VALUES
        .iter()
        .find(|(_, module, name)| *module == public_module && *name == qualname)
    {
        return Ok(Rule::Value(*kind));
    }
    // Where the class itself travels by name, its objects are of that very class on either side.
    if crate::proxy::proxyable(class).is_ok() {
        return Ok(Rule::Named);
    }
    Ok(Rule::Described)
}

/// The local type of a numbered kind.
pub(crate) fn type_of_kind<'py>(
    py: Python<'py>,
    kind: Kind,
) -> PyResult<Option<Bound<'py, PyType>>> {
    let Some((_, name)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return Ok(None);
    };
    Ok(Some(named::resolve(py, "builtins", name)?.cast_into()?))
}

/// Where a copied standard-library value's class is found.
pub(crate) fn class_of_value<'py>(
    py: Python<'py>,
    kind: StructKind,
) -> PyResult<Option<Bound<'py, PyType>>> {
    match VALUES.iter().find(|(known, ..)| *known == kind) {
        Some((_, module, name)) => Ok(Some(py.import(*module)?.getattr(*name)?.cast_into()?)),
        None => Ok(None),
    }
}
