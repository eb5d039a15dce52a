//! Conversations that somebody outside begins with a guest, over a stream of the manager.
//!
//! Bytes of TCP are the bytes of the stream. Datagrams of UDP have their length before them, two
//! bytes, most significant first.

use std::io;

use racknest_cluster::record::services::Protocol;
use racknest_cluster::wire::switching::ForwardRequest;
use racknest_gateway::packet::{Ends, HEADER_LEN, Packet, UDP_LEN, datagram};
use racknest_types::fault::{Fault, FaultCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::Desk;
use super::flows::Link;
use super::tcp::{self, Wire};
use super::{Errand, udp};

/// A way to a guest, before anything is said on it.
#[derive(Debug)]
pub struct Opened {
    protocol: Protocol,
    ends: Ends,
    link: Link,
}

/// A conversation with a guest.
#[derive(Debug)]
pub struct Spoken(Speech);

#[derive(Debug)]
enum Speech {
    Connection(Box<Wire>),
    Datagrams { ends: Ends, link: Link },
}

impl Opened {
    pub(super) const fn new(protocol: Protocol, ends: Ends, link: Link) -> Self {
        Self { protocol, ends, link }
    }

    /// Speaks to the guest: on return it has accepted, if it was asked for a connection.
    ///
    /// # Errors
    /// The guest refuses, or is silent.
    pub async fn speak(self) -> Result<Spoken, Fault> {
        let Self { protocol, ends, link } = self;
        if protocol == Protocol::Udp {
            return Ok(Spoken(Speech::Datagrams { ends, link }));
        }
        let wire = tcp::into(ends, link).await.map_err(|error| {
            let (address, port) = ends.to;
            let why = format!("the guest at {address} does not take port {port}: {error}");
            Fault::new(FaultCode::SystemError, why)
        })?;
        Ok(Spoken(Speech::Connection(Box::new(wire))))
    }
}

impl Spoken {
    /// Carries the conversation between the guest and a stream until it is over.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn join(self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        match self.0 {
            Speech::Connection(wire) => {
                wire.join(stream).await;
                Ok(())
            }
            Speech::Datagrams { ends, link } => datagrams(ends, link, stream).await,
        }
    }
}

impl Desk {
    /// A way to a guest, in the name of its gateway.
    ///
    /// # Errors
    /// The network has no gateway here, or there are too many conversations.
    pub async fn open(&self, request: ForwardRequest) -> Result<Opened, Fault> {
        let (reply, opened) = oneshot::channel();
        let errand = Errand::Open { request, reply };
        let ended = || Fault::system("the host's switch has ended");
        self.shared().gateway.errands.send(errand).await.map_err(|_| ended())?;
        opened.await.map_err(|_| ended())?
    }
}

async fn datagrams(ends: Ends, link: Link, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let Link { mtu, mut packets, guest } = link;
    let (mut from, mut to) = tokio::io::split(stream);
    let answers = async {
        while let Ok(Some(packet)) = timeout(udp::SILENCE, packets.recv()).await {
            let payload = Packet::parse(&packet).and_then(|packet| packet.datagram());
            let Some(payload) = payload else { continue };
            to.write_u16(u16::try_from(payload.len()).unwrap_or(u16::MAX)).await?;
            to.write_all(payload).await?;
            to.flush().await?;
        }
        Ok(())
    };
    let questions = async {
        loop {
            let mut payload = vec![0; from.read_u16().await?.into()];
            from.read_exact(&mut payload).await?;
            // What does not fit the guest's network is lost there.
            if payload.len() + HEADER_LEN + UDP_LEN <= usize::from(mtu) {
                guest.send(datagram(ends, &payload)).await;
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = answers => ended,
        ended = questions => ended,
    };
    match ended {
        // Who asks has said all.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        ended => ended,
    }
}
