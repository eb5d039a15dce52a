//! Questions for the name servers that this machine uses itself.
//!
//! A question is passed on as it is, so that whatever a guest asks for (any type, DNSSEC) is answered
//! by who knows; racknest keeps no names of the outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use racknest_gateway::dns::{self, Outcome, PORT};
use racknest_types::id::NetworkId;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::udp::any_like;

/// Where the machine says which name servers it uses.
const CONFIGURATION: &str = "/etc/resolv.conf";

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many are asked, one after the other.
const SERVERS_MAX: usize = 3;

/// Room for the longest answer over UDP.
const ANSWER_MAX: usize = 65_536;

/// A question of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The network of the guest.
    pub(super) network: NetworkId,
    /// Who asks: address and port.
    pub(super) client: (Ipv4Addr, u16),
    /// The DNS message.
    pub(super) query: Vec<u8>,
}

/// The answer, or that there is none; `None` if it is no question.
pub(super) async fn answer(query: &[u8]) -> Option<Vec<u8>> {
    // Read each time: a laptop has others with each network that it joins.
    let text = fs_err::tokio::read_to_string(CONFIGURATION).await.unwrap_or_default();
    for server in servers(&text).take(SERVERS_MAX) {
        let asked = timeout(PATIENCE, ask(SocketAddr::new(server, PORT), query)).await;
        match asked {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a name server cannot be asked"),
            Err(_) => tracing::debug!(%server, "a name server does not answer"),
        }
    }
    dns::failure(query, Outcome::Failed)
}

/// The name servers that a configuration names (resolv.conf(5)).
fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
}

async fn ask(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(any_like(server.ip())).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; ANSWER_MAX];
    loop {
        let size = socket.recv(&mut answer).await?;
        // The number of the question, which whoever only guesses does not know.
        if answer[..size].first_chunk::<2>() == query.first_chunk::<2>() {
            answer.truncate(size);
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_system_reads_them() {
        let text = "# by hand\nsearch lab\nnameserver 10.0.0.53\n nameserver ::1 # here\n\
                    nameserver\nnameserver fe80::1%eth0\nnameservers 1.1.1.1\n";
        let found: Vec<String> = servers(text).map(|server| server.to_string()).collect();
        assert_eq!(found, ["10.0.0.53", "::1"]);
    }

    #[tokio::test]
    async fn a_question_is_passed_on_and_only_its_own_answer_is_taken() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let serve = async {
            let mut bytes = [0; 64];
            let (size, from) = server.recv_from(&mut bytes).await.unwrap();
            assert_eq!(bytes[..size], *b"\x12\x34question");
            server.send_to(b"\x99\x99a guess", from).await.unwrap();
            server.send_to(b"\x12\x34answer", from).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(address, b"\x12\x34question"), serve);
        assert_eq!(answer.unwrap(), b"\x12\x34answer");
    }
}
