//! The desk of the box: where cables are pulled and power is switched by whoever may open the
//! socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use racknest_types::fault::Fault;

use crate::fabric::plant::Plant;
use crate::fabric::record::Group;
use crate::packet::PacketSocket;
use crate::wire::{
    ITEMS_PER_REPLY, LinkState, MESSAGE_MAX, Order, OutletState, Reply, StagedProgram, StorageLink,
    SwitchNeighbour, VERSION, encode,
};

/// Serves orders until whoever gives them hangs up.
pub(crate) async fn serve(plant: Arc<Plant>, socket: PacketSocket, version: u32) {
    if let Err(error) = serve_orders(&plant, &socket, version).await {
        tracing::debug!(%error, "desk connection failed");
    }
}

async fn serve_orders(plant: &Plant, socket: &PacketSocket, version: u32) -> io::Result<()> {
    if version != VERSION {
        let fault = Fault::unsupported(format!(
            "the running box speaks version {VERSION} of the underlay, this program version \
             {version}; use the racknest that started the box"
        ));
        return reply(socket, &Reply::Failed(fault)).await;
    }
    reply(socket, &Reply::Done).await?;
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        match serve_order(plant, serde_json::from_slice(&buffer[..size])?).await {
            Ok(Outcome::Done) => reply(socket, &Reply::Done).await?,
            Ok(Outcome::Links(links)) => tell_links(socket, links).await?,
            Ok(Outcome::Power(outlets)) => tell_power(socket, outlets).await?,
            Ok(Outcome::Storage(adapters)) => tell_storage(socket, adapters).await?,
            Ok(Outcome::Neighbours(neighbours)) => tell_neighbours(socket, neighbours).await?,
            Ok(Outcome::Program(program)) => reply(socket, &Reply::Program(program)).await?,
            Ok(Outcome::Groups(groups)) => reply(socket, &Reply::Groups { groups }).await?,
            Err(fault) => reply(socket, &Reply::Failed(fault)).await?,
        }
    }
}

/// What an order came to.
enum Outcome {
    Done,
    Links(Vec<LinkState>),
    Storage(Vec<StorageLink>),
    Groups(Vec<Group>),
    Neighbours(Vec<SwitchNeighbour>),
    Power(Vec<OutletState>),
    Program(StagedProgram),
}

async fn serve_order(plant: &Plant, order: Order) -> Result<Outcome, Fault> {
    match order {
        Order::Cut { machine, nic } => plant.set_cable(&machine, &nic, false).await?,
        Order::Restore { machine, nic } => plant.set_cable(&machine, &nic, true).await?,
        Order::Unplug { machine } => plant.unplug(&machine).await?,
        Order::Impair { machine, nic, faults } => {
            plant.set_faults(&machine, &nic, faults).await?;
        }
        Order::Port { machine, nic, setup } => plant.set_port(&machine, &nic, setup).await?,
        Order::Storage { machine, state } => plant.set_storage(&machine, state).await?,
        Order::Partition { groups } => plant.partition(groups).await?,
        Order::Groups => return Ok(Outcome::Groups(plant.groups().await)),
        Order::Neighbours => return Ok(Outcome::Neighbours(plant.switch.neighbours())),
        Order::StorageLinks => return Ok(Outcome::Storage(plant.storage_links())),
        Order::Links => return Ok(Outcome::Links(plant.links())),
        Order::Power => return Ok(Outcome::Power(plant.power()?.list())),
        Order::PowerOff { machine } => plant.power()?.off(&machine).await?,
        Order::PowerOn { machine } => plant.power()?.on(&machine).await?,
        Order::Hang { machine, is_hung } => plant.power()?.hang(&machine, is_hung).await?,
        Order::Kill { machine } => plant.power()?.kill(&machine).await?,
        Order::Stage { path } => {
            return plant.power()?.stage_program(&path).await.map(Outcome::Program);
        }
        Order::Program { program } => {
            return plant.power()?.staged_program(&program).await.map(Outcome::Program);
        }
        Order::Try { machine, program, limit_ms } => {
            let limit = Duration::from_millis(limit_ms);
            plant.power()?.try_program(&machine, &program, limit).await?;
        }
        Order::Keep { machine, program } => {
            plant.power()?.keep_program(&machine, &program).await?;
        }
        Order::Stop => plant.power()?.stop().await?,
    }
    Ok(Outcome::Done)
}

async fn tell_links(socket: &PacketSocket, links: Vec<LinkState>) -> io::Result<()> {
    for (links, more) in pages(links) {
        reply(socket, &Reply::Links { links, more }).await?;
    }
    Ok(())
}

async fn tell_power(socket: &PacketSocket, outlets: Vec<OutletState>) -> io::Result<()> {
    for (outlets, more) in pages(outlets) {
        reply(socket, &Reply::Power { outlets, more }).await?;
    }
    Ok(())
}

async fn tell_storage(socket: &PacketSocket, adapters: Vec<StorageLink>) -> io::Result<()> {
    for (adapters, more) in pages(adapters) {
        reply(socket, &Reply::Storage { adapters, more }).await?;
    }
    Ok(())
}

async fn tell_neighbours(
    socket: &PacketSocket,
    neighbours: Vec<SwitchNeighbour>,
) -> io::Result<()> {
    for (neighbours, more) in pages(neighbours) {
        reply(socket, &Reply::Neighbours { neighbours, more }).await?;
    }
    Ok(())
}

/// Pieces that fit into a packet each, and whether more follow. At least one, so that there is an
/// answer.
fn pages<T>(mut rest: Vec<T>) -> Vec<(Vec<T>, bool)> {
    let mut pages = Vec::new();
    loop {
        let next = rest.split_off(rest.len().min(ITEMS_PER_REPLY));
        let more = !next.is_empty();
        pages.push((rest, more));
        if !more {
            return pages;
        }
        rest = next;
    }
}

async fn reply(socket: &PacketSocket, reply: &Reply) -> io::Result<()> {
    socket.send_with_fd(&encode(reply), None).await
}
