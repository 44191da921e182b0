//! One output stream of a running program.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// One output stream of a program, read by a thread so that the program never waits for us.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    state: Mutex<CaptureState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct CaptureState {
    bytes: Vec<u8>,
    /// How much of it `take_up_to` has passed on.
    taken: usize,
    ended: bool,
}

impl Capture {
    /// Reads `source` to its end; without a source, the stream is empty.
    pub(crate) fn start(source: Option<impl Read + Send + 'static>) -> Arc<Capture> {
        let capture = Arc::new(Capture::default());
        match source {
            None => capture.state.lock().unwrap().ended = true,
            Some(source) => {
                let reader = Arc::clone(&capture);
                thread::spawn(move || reader.read_all(source));
            }
        }
        capture
    }

    fn read_all(&self, mut source: impl Read) {
        let mut buffer = [0; 8192];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A terminal whose last user is gone says EIO, not end of file.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
                Err(error) => panic!("read a program's output: {error}"),
            };
            let mut state = self.state.lock().unwrap();
            state.bytes.extend_from_slice(&buffer[..count]);
            state.ended = count == 0;
            self.changed.notify_all();
            if state.ended {
                return;
            }
        }
    }

    /// What came after the last call, up to the end of the first `text` in it; nothing when the stream or the
    /// time ends before there is one.
    pub(crate) fn take_up_to(&self, text: &str, deadline: Instant) -> Option<String> {
        let mut state = self.state.lock().unwrap();
        loop {
            let new = &state.bytes[state.taken..];
            let found = new.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(position) = found {
                let length = position + text.len();
                let result = String::from_utf8_lossy(&new[..length]).into_owned();
                state.taken += length;
                return Some(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end of the stream, or the deadline.
    pub(crate) fn wait_for_end(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_timeout_while(state, left, |state| !state.ended).unwrap());
    }

    /// Everything up to now. Bytes that are no UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().unwrap().bytes).into_owned()
    }
}
