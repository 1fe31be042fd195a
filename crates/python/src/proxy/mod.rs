//! Transparent proxies: objects whose every operation goes to a controller.
//!
//! A proxy of type `T` is an instance of a *proxy type* that is made once for `T` (`types`): its
//! slots are those that `T` has, and none of them looks at storage of its own, because it has none:
//! it is no C-level subclass of `T`. That `type(p)` and `p.__class__` are `T` is told by the hook of
//! `type` and by the proxy itself. Every slot ends in `object::operate`.

mod object;
mod slots;
mod tputil;
mod types;

pub(crate) use object::{Native, ProxyRef, as_proxy, install_type_hook, new_deferred, new_proxy};
pub(crate) use tputil::{ProxyOperation, get_tproxy_controller, make_proxy, tproxy};
pub(crate) use types::proxyable;
