//! Passes the Python version on as `cfg(Py_3_NN)`, and tells test programs where libpython is.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    // Only what is linked from this package: tests and examples that embed an interpreter.
    pyo3_build_config::add_libpython_rpath_link_args();
}
