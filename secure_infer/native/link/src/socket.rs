//! One TCP connection that never blocks without a deadline and notices a cancellation.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cancel::Cancel;
use crate::error::LinkError;
use crate::timeouts::Timeouts;

/// How often a wait looks at the cancellation flag.
const SLICE: Duration = Duration::from_millis(100);

/// Why a wait ended without the socket being ready.
pub(crate) enum Interrupted {
    Timeout,
    Cancelled,
    Io(io::Error),
}

pub(crate) struct Socket {
    stream: TcpStream,
    pub(crate) cancel: Cancel,
    /// Whether a request to stop when idle ends the present wait.
    pub(crate) idle: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, cancel: Cancel) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // A peer whose machine vanished sends no end of the connection.
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        Ok(Self {
            stream,
            cancel,
            idle: false,
        })
    }

    /// Connects to `host:port`, trying each of its addresses.
    pub(crate) fn connect(
        address: &str,
        timeouts: &Timeouts,
        cancel: Cancel,
    ) -> Result<Self, LinkError> {
        let failed = |reason: String| LinkError::Connect {
            address: address.to_owned(),
            reason,
        };
        let deadline = Instant::now() + timeouts.connect;
        let mut reason = "no address of that name".to_owned();
        for target in address
            .to_socket_addrs()
            .map_err(|error| failed(error.to_string()))?
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed("no answer within the time allowed".to_owned()));
            }
            match TcpStream::connect_timeout(&target, left) {
                Ok(stream) => {
                    return Self::new(stream, cancel).map_err(|error| failed(error.to_string()));
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(failed(reason))
    }

    /// Waits until the socket can be read or written, as asked, or `deadline` has passed. Returns
    /// whether it can be read; an error condition counts, the read that follows will report it.
    pub(crate) fn wait(
        &self,
        read: bool,
        write: bool,
        deadline: Instant,
    ) -> Result<bool, Interrupted> {
        loop {
            if if self.idle {
                self.cancel.is_stopping()
            } else {
                self.cancel.is_cancelled()
            } {
                return Err(Interrupted::Cancelled);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Interrupted::Timeout);
            }
            if let Some(got) = self
                .poll(read, write, left.min(SLICE))
                .map_err(Interrupted::Io)?
            {
                return Ok(read && got.intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP));
            }
        }
    }

    fn poll(&self, read: bool, write: bool, time: Duration) -> io::Result<Option<PollFlags>> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, read);
        wanted.set(PollFlags::OUT, write);
        let mut fds = [PollFd::new(&self.stream, wanted)];
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(time.subsec_nanos()).max(1_000_000),
        };
        match poll(&mut fds, Some(&time)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
            Ok(_) => Ok(Some(fds[0].revents())),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn close_write(&self) {
        // The connection is over either way.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
