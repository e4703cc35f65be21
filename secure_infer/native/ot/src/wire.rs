//! What an engine needs of a connection.

use crate::error::{OtError, check_len};

/// Messages to and from the other party's engine, in order.
pub trait Wire: Send {
    /// Sends a message, at once or later.
    ///
    /// # Errors
    /// [`OtError::Connection`]; whoever implements this knows why.
    fn send(&mut self, message: &[u8]) -> Result<(), OtError>;

    /// Waits for the next message, of `len` bytes, which takes the place of what `message` holds.
    ///
    /// # Errors
    /// [`OtError::Connection`], or [`OtError::Length`] for a message of another length.
    fn recv(&mut self, len: usize, message: &mut Vec<u8>) -> Result<(), OtError>;
}

/// Keeps what is sent, one message behind the other; there is nothing to receive.
impl Wire for Vec<u8> {
    fn send(&mut self, message: &[u8]) -> Result<(), OtError> {
        self.extend_from_slice(message);
        Ok(())
    }

    fn recv(&mut self, _len: usize, _message: &mut Vec<u8>) -> Result<(), OtError> {
        Err(OtError::Connection)
    }
}

/// Gives what the other party has sent, from the front; nothing can be sent.
impl Wire for &[u8] {
    fn send(&mut self, _message: &[u8]) -> Result<(), OtError> {
        Err(OtError::Connection)
    }

    fn recv(&mut self, len: usize, message: &mut Vec<u8>) -> Result<(), OtError> {
        let Some((now, later)) = self.split_at_checked(len) else {
            return check_len("message of the other party", len, self.len());
        };
        message.clear();
        message.extend_from_slice(now);
        *self = later;
        Ok(())
    }
}
