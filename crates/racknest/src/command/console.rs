//! A VM's screen and serial port, here.
//!
//! Both come over a WebSocket through the manager, so they work wherever the REST interface does.
//! The screen is offered to any VNC viewer on a port of this machine that only this machine can
//! reach; the serial port is joined to the terminal.

use std::io::IsTerminal as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use futures::{SinkExt as _, StreamExt as _};
use racknest_api::operation::path;
use racknest_types::fault::Fault;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{Setting, path_value, row};
use crate::client::Client;
use crate::print;

/// Ctrl-], as in telnet and virsh: it leaves the serial port.
const LEAVE: u8 = 0x1d;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Adds the argument of `racknest vm console`.
pub(crate) fn screen_arguments(command: Command) -> Command {
    command.arg(
        Arg::new("port")
            .long("port")
            .value_name("PORT")
            .value_parser(value_parser!(u16))
            .default_value("0")
            .help("The local port for the viewer; 0 takes any that is free"),
    )
}

/// Offers a VM's screen to VNC viewers of this machine, until it is stopped.
pub(crate) fn screen(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let vm = path_value(matches, "vm").to_owned();
    let port = matches.get_one::<u16>("port").copied().unwrap_or(0);
    run(async {
        // A VM that has no console says so now, not when a viewer has connected.
        connect(&client, "vm_console", &vm).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| {
            format!("port {port} of this machine cannot be used: take another with --port")
        })?;
        let address = listener.local_addr()?;
        print::note(format!("the screen of {vm} is at {address}; stop with Ctrl-C"));
        print::line(format!("vnc://{address}"));
        loop {
            let (mut viewer, _) = listener.accept().await?;
            let (mut from, mut to) = viewer.split();
            let socket = connect(&client, "vm_console", &vm).await?;
            // A viewer that leaves is no error: the next one may come.
            let left = pump(socket, &mut from, &mut to, None).await;
            print::note(left.map_or_else(|error| format!("{error:#}"), |()| "viewer left".into()));
        }
    })
}

/// Joins a VM's serial port to the terminal.
pub(crate) fn serial(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let vm = path_value(matches, "vm").to_owned();
    run(async {
        let socket = connect(&client, "vm_serial", &vm).await?;
        let is_terminal = std::io::stdin().is_terminal();
        if is_terminal {
            print::note(format!("connected to the serial port of {vm}; leave with Ctrl-]"));
        }
        let _raw = if is_terminal { Some(Raw::start()?) } else { None };
        pump(socket, &mut tokio::io::stdin(), &mut tokio::io::stdout(), Some(LEAVE)).await
    })
}

/// Runs one conversation on a runtime of its own, which does not wait for a key that nobody presses.
fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Carries bytes both ways until either side ends, or the user types what leaves.
async fn pump(
    mut socket: Socket,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    leave: Option<u8>,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut is_reading = true;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    to.write_all(&bytes).await?;
                    to.flush().await?;
                }
                Some(Ok(Message::Close(Some(frame)))) if !frame.reason.is_empty() => {
                    bail!("{}", frame.reason);
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_)
                    | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(error).context("the connection broke"),
            },
            count = from.read(&mut buffer), if is_reading => {
                let bytes = &buffer[..count?];
                // What is piped in ends; what the VM answers may still be on its way.
                is_reading = !bytes.is_empty();
                if leave.is_some_and(|leave| bytes.contains(&leave)) {
                    return Ok(());
                }
                if leave.is_none() && bytes.is_empty() {
                    return Ok(());
                }
                socket.send(Message::binary(bytes.to_vec())).await.context("the connection broke")?;
            }
        }
    }
}

async fn connect(client: &Client, operation: &str, vm: &str) -> anyhow::Result<Socket> {
    let url = format!("{}{}", client.base(), path(row(operation).path, &[vm]));
    let url: Uri = url.replacen("https:", "wss:", 1).parse().context("the address is no URL")?;
    let host = url.host().context("the address has no host")?.trim_matches(['[', ']']).to_owned();
    let unreachable = || format!("cannot reach rack '{}' at {}", client.name, client.base());
    let stream = TcpStream::connect((host.as_str(), url.port_u16().unwrap_or(443))).await;
    let stream = stream.with_context(unreachable)?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).context("the address is no host's")?;
    let stream = TlsConnector::from(tls(client)?).connect(name, stream).await;
    let stream = stream.with_context(unreachable)?;
    let mut request = url.into_client_request()?;
    if let Some(token) = &client.profile.token {
        let value = HeaderValue::try_from(format!("Bearer {token}"))?;
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(SocketError::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            let fault = serde_json::from_slice::<Fault>(body);
            Err(fault
                .map_or_else(|_| anyhow!("HTTP {}", answer.status()), |fault| anyhow!("{fault}")))
        }
        Err(error) => Err(error).with_context(unreachable),
    }
}

fn tls(client: &Client) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(client.profile.certificate.as_bytes()) {
        roots.add(certificate.context("the profile's certificate is no PEM")?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The terminal, passing every key on; as it was when this is dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn start() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("the terminal cannot be used")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw)
            .context("the terminal cannot be used")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then nobody sees it.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
