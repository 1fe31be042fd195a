//! Passes the Python version on as `cfg(Py_3_NN)`.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
