//! Transparent proxies: objects whose every operation goes to a controller.
//!
//! A proxy of type `T` is an instance of a *proxy type* that is made once for `T` (`types`): its
//! slots are those that `T` has (`table`, `slots`), and none of them looks at storage of its own.
//! That `type(p)` and `p.__class__` are `T` is told by the hook of `type` and by the proxy itself.
//! Every slot ends in `object::operate`, which asks the controller.

mod boundary;
mod bypass;
mod delegation;
mod exceptions;
mod hook;
mod object;
mod perform;
mod reduce;
mod slots;
mod table;
mod tputil;
mod types;

pub(crate) use boundary::hook_indexing;
pub(crate) use delegation::{delegate, remember_delegate};
pub(crate) use hook::{
    install_type_hook, install_unless_left_out, type_hook_installed, uninstall_type_hook,
};
#[expect(unused_imports, reason = "part of the interface to the other rooms")]
pub(crate) use object::is_proxy;
pub(crate) use object::{Native, ProxyRef, as_proxy, new_deferred, new_proxy};
pub(crate) use perform::operator;
pub(crate) use table::operation_table;
pub(crate) use tputil::{ProxyOperation, get_tproxy_controller, make_proxy, tproxy};
pub(crate) use types::proxyable;
