//! The answer to a ping: a datagram goes back as it came.
//!
//! Whoever wants to be found answers: hosts, the manager, and the machine `gateway` of a box, which
//! is nothing else. A host that hears no answer from any machine knows that it is cut off.

use crate::header::DATAGRAM_MAX;
use crate::underlay::DatagramSocket;

/// Answers at this socket for ever.
pub async fn answer(socket: DatagramSocket) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let received = socket.recv(&mut buffer).await;
        let payload = &buffer[..received.size.min(DATAGRAM_MAX)];
        // What was received is not too long to be sent.
        let _ = socket.send_to(&received.from, received.port, payload).await;
    }
}
