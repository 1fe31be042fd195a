//! Buffers of remote objects: one message brings a copy of the bytes with their format and shape.
//!
//! The copy is read-only: nothing written to it would reach the original, and so whoever asks for a
//! writable buffer is refused. It is used where it was received, without being copied again.

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use objspace_proto::FetchKind;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};

use super::controller::Remote;
use crate::session::errors::ProtocolError;

/// A copy of a remote buffer.
#[pyclass(frozen, module = "objspace._core", name = "RemoteBuffer")]
pub(crate) struct Buffer {
    data: Vec<u8>,
    format: CString,
    itemsize: isize,
    shape: Vec<isize>,
    strides: Vec<isize>,
}

/// As many dimensions as the buffer protocol has.
const DIMENSIONS: usize = 64;

/// The buffer of a remote object, in one message. `flags` is what is asked of it.
pub(crate) fn fetch<'py>(
    py: Python<'py>,
    remote: &Remote,
    flags: c_int,
) -> PyResult<Bound<'py, PyAny>> {
    if flags & ffi::PyBUF_WRITABLE != 0 {
        remote.buffers().refused();
        return Err(PyBufferError::new_err(
            "the buffer of a remote object is a read-only copy: write by its own methods",
        ));
    }
    let buffer = remote
        .connection()
        .fetch(py, remote.target(), FetchKind::BUFFER, &[], &[])?;
    remote.buffers().keep(buffer, flags)
}

/// Buffers that must live as long as the proxy.
///
/// C code that first asks for a writable buffer and then for a plain one may go by an old rule: it
/// gives the buffer back at once and keeps only the object (`numpy.frombuffer` does). Such a copy is
/// kept for the life of the proxy, once for the same contents.
#[derive(Default)]
pub(crate) struct Kept(Mutex<(Asker, Vec<Py<PyAny>>)>);

/// The instruction that was refused a writable buffer last.
type Asker = Option<(usize, usize)>;

impl Kept {
    fn lock(&self) -> MutexGuard<'_, (Asker, Vec<Py<PyAny>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) {
        // SAFETY: callers are attached.
        self.lock().0 = Some(unsafe { objspace_interp::position() });
    }

    fn keep<'py>(&self, buffer: Bound<'py, PyAny>, flags: c_int) -> PyResult<Bound<'py, PyAny>> {
        let py = buffer.py();
        // SAFETY: attached.
        let here = unsafe { objspace_interp::position() };
        let mut kept = self.lock();
        if kept.0 != Some(here) || flags != ffi::PyBUF_SIMPLE {
            return Ok(buffer);
        }
        let new = buffer.cast::<Buffer>()?.get();
        let known = kept.1.iter().find(|known| {
            known
                .bind(py)
                .cast::<Buffer>()
                .is_ok_and(|known| known.get().data == new.data)
        });
        if let Some(known) = known {
            let known = known.clone_ref(py).into_bound(py);
            drop(kept);
            return Ok(known);
        }
        kept.1.push(buffer.clone().unbind());
        Ok(buffer)
    }
}

impl Buffer {
    /// A buffer of (format, item size, shape) that was received.
    pub(crate) fn new(parts: &Bound<'_, PyTuple>, data: Vec<u8>) -> PyResult<Self> {
        let broken = || ProtocolError::new_err("the other side sent a buffer that is none");
        let (format, itemsize, shape): (String, isize, Vec<isize>) =
            parts.extract().map_err(|_| broken())?;
        if shape.len() > DIMENSIONS || itemsize < 0 || shape.iter().any(|extent| *extent < 0) {
            return Err(broken());
        }
        let mut strides = vec![0; shape.len()];
        let mut size = itemsize;
        for (stride, extent) in strides.iter_mut().zip(&shape).rev() {
            *stride = size;
            size = size.checked_mul(*extent).ok_or_else(broken)?;
        }
        if size.unsigned_abs() != data.len() {
            return Err(broken());
        }
        Ok(Self {
            data,
            format: CString::new(format).map_err(|_| broken())?,
            itemsize,
            shape,
            strides,
        })
    }
}

#[pymethods]
impl Buffer {
    // SAFETY: called by the interpreter with a buffer to fill in. Everything that it points to belongs
    // to this object, which never changes and which the buffer keeps alive.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let own = slf.get();
        let asks = |flag: c_int| flags & flag == flag;
        if asks(ffi::PyBUF_WRITABLE) {
            return Err(PyBufferError::new_err(
                "the buffer of a remote object is a read-only copy",
            ));
        }
        if own.shape.len() > 1 && asks(ffi::PyBUF_F_CONTIGUOUS) && !asks(ffi::PyBUF_C_CONTIGUOUS) {
            return Err(PyBufferError::new_err(
                "the copy of a remote buffer is contiguous in the order of C",
            ));
        }
        let data: &[u8] = &own.data;
        let part = |wanted: bool, values: &[isize]| {
            if wanted {
                values.as_ptr().cast_mut()
            } else {
                ptr::null_mut()
            }
        };
        // SAFETY: as above; `view` is valid for writing.
        unsafe {
            (*view).buf = data.as_ptr().cast_mut().cast::<c_void>();
            (*view).len = data.len().cast_signed();
            (*view).readonly = 1;
            (*view).itemsize = own.itemsize;
            (*view).format = if asks(ffi::PyBUF_FORMAT) {
                own.format.as_ptr().cast_mut()
            } else {
                ptr::null_mut()
            };
            let shaped = asks(ffi::PyBUF_ND);
            (*view).ndim = if shaped {
                c_int::try_from(own.shape.len()).unwrap_or(0)
            } else {
                1
            };
            (*view).shape = part(shaped, &own.shape);
            (*view).strides = part(asks(ffi::PyBUF_STRIDES), &own.strides);
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = ptr::null_mut();
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }
}

/// The owner's side: (format, item size, shape, bytes) of the buffer of `target`.
pub(crate) fn answer<'py>(target: &Bound<'py, PyAny>) -> PyResult<[Bound<'py, PyAny>; 4]> {
    let view = PyMemoryView::from(target)?;
    let object = view.getattr("obj")?;
    let whole = object
        .cast_exact::<PyBytes>()
        .is_ok_and(|bytes| view.len().is_ok_and(|len| len == bytes.as_bytes().len()))
        && view.getattr("ndim")?.eq(1)?
        && view.getattr("itemsize")?.eq(1)?
        && view.getattr("c_contiguous")?.is_truthy()?;
    let bytes = if whole {
        // It never changes: it is sent from where it lies.
        object
    } else {
        view.call_method0("tobytes")?
    };
    let parts = [
        view.getattr("format")?,
        view.getattr("itemsize")?,
        view.getattr("shape")?,
        bytes,
    ];
    view.call_method0("release")?;
    Ok(parts)
}

/// The flags that the buffer slot passes on.
pub(crate) fn flags_of(args: &[Bound<'_, PyAny>]) -> PyResult<c_int> {
    match args.first() {
        Some(flags) => flags.extract(),
        None => Err(PyTypeError::new_err("__buffer__ takes the flags")),
    }
}
