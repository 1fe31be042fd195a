//! The extension module `objspace._core`. This file only declares the module.

mod convert;
mod dump;
mod pickling;
mod proxy;
mod remote;
mod session;

use pyo3::prelude::*;

/// The compiled half of objspace; import `objspace` instead.
#[pymodule(gil_used = true)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::convert::declared::by_value;
    #[cfg(not(Py_3_12))]
    #[pymodule_export]
    use crate::dump::_dump_traced;
    #[pymodule_export]
    use crate::dump::reading::{
        _dump_kinds, DumpLife, DumpLog, DumpObject, DumpOperation, DumpRef, DumpSite, DumpSpecial,
    };
    #[pymodule_export]
    use crate::dump::watch::DumpWatcher;
    #[pymodule_export]
    use crate::dump::{
        _dump_abandon, _dump_flush, _dump_operations, _dump_retrace, _dump_start, _dump_stop,
    };
    #[pymodule_export]
    use crate::pickling::functions::{dumps, loads, read_directly, write_directly};
    #[pymodule_export]
    use crate::pickling::hop::{
        abandon_frames, coroutine_of, exported_to_peer, finish_coroutine, keep_forever,
        peer_may_everything, remote_kind,
    };
    #[pymodule_export]
    use crate::pickling::install::{install, uninstall};
    #[pymodule_export]
    use crate::pickling::objects::file::reduce_file;
    #[pymodule_export]
    use crate::pickling::reducer::{Reducer, register_reducer};
    #[pymodule_export]
    use crate::pickling::unpickler::{
        explain_failure, find_allowed, load_allowing, read_pickle, unwrap_pickle, wrap_pickle,
    };
    #[pymodule_export]
    use crate::proxy::{
        ProxyOperation, delegate, get_tproxy_controller, hook_indexing, install_type_hook,
        make_proxy, operation_table, tproxy, type_hook_installed, uninstall_type_hook,
    };
    #[pymodule_export]
    use crate::remote::copy_out::copy_out;
    #[pymodule_export]
    use crate::remote::parts::_parts;
    #[pymodule_export]
    use crate::remote::read_ahead::read_ahead;
    #[pymodule_export]
    use crate::remote::view::RemoteView;
    #[pymodule_export]
    use crate::session::deadline::Limit;
    #[pymodule_export]
    use crate::session::errors::{
        AuthenticationError, ConnectionLost, ObjectNotFound, ProtocolError,
    };
    #[pymodule_export]
    use crate::session::link::end_all_sessions;
    #[pymodule_export]
    use crate::session::operator::{server_last_error, server_status};
    #[pymodule_export]
    use crate::session::pipeline::Pipeline;
    #[pymodule_export]
    use crate::session::policy::Policy;
    #[pymodule_export]
    use crate::session::promise::Promise;
    #[pymodule_export]
    use crate::session::secure::{Tls, connect, connect_over_fds};
    #[pymodule_export]
    use crate::session::server::Server;
    #[pymodule_export]
    use crate::session::{Session, choose_event_loop, pair, session_of, session_over_fds};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        objspace_interp::supported().map_err(pyo3::exceptions::PyImportError::new_err)?;
        crate::proxy::install_unless_left_out(module.py())?;
        crate::proxy::remember_delegate(module)?;
        crate::pickling::register(module.py())?;
        crate::pickling::frames::chain::export(module)?;
        let end_all_sessions = module.getattr("end_all_sessions")?;
        module
            .py()
            .import("atexit")?
            .call_method1("register", (end_all_sessions,))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
