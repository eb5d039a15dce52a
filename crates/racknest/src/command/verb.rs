//! A verb: an operation as a command, with its words, arguments and examples.

use clap::{Arg, ArgAction, Command};
use racknest_api::operation::OperationRow;

use super::{console, drill, event, file, input, path_argument, row, session, stats, transfer};

/// An operation as a command.
#[derive(Clone, Debug)]
pub(crate) struct Verb {
    /// The operation, or the one that most of the work is done by.
    pub(crate) row: OperationRow,
    /// The words of the command: `vm`, `power-on`.
    pub(crate) words: Vec<String>,
}

/// Other words for a verb, by the operation's id.
const ALIASES: &[(&str, &[&str])] = &[
    ("datastore_browse", &["ls"]),
    ("datastore_remove", &["rm"]),
    ("stats_query", &["show"]),
    ("vm_mark_template", &["template"]),
];

/// Second words that have verbs below them, and what those do.
const LEVELS: &[(&str, &str)] = &[
    ("group", "List, create, edit and delete groups of VMs or hosts that rules speak of"),
    ("mirror", "List, create and delete sessions that copy what passes by ports"),
    ("maintenance", "Enter and exit maintenance mode"),
    ("rule", "List, create, enable, disable and delete rules over where VMs run"),
    ("snapshot", "List, create, revert to, rename and delete snapshots"),
    ("wire", "Make the wires of NICs faulty, cut them, and make them whole"),
];

/// Examples for the verbs whose own would not say enough, by the operation's id.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "vm_list",
        &[
            "racknest vm list",
            "racknest vm list 'web*' --power-state powered_on",
            "racknest vm list -o name",
        ],
    ),
    (
        "vm_create",
        &["racknest vm create web01 --memory 1GiB --disk 8GiB --nic 'VM Network' --power-on"],
    ),
    (
        "vm_clone",
        &[
            "racknest vm clone template1 web01 --power-on",
            "racknest vm clone template1 'web##' --count 20 --batch 5 --power-on",
            "racknest vm clone web01 web01-test --mode full --network web=web-test",
        ],
    ),
    ("vm_power_on", &["racknest vm power-on vm01", "racknest vm power-on 'vm*' db01"]),
    (
        "vm_power_on_group",
        &[
            "racknest vm power-on-group db01 'web*' --preview",
            "racknest vm power-on-group db01 'web*' --all-or-none",
        ],
    ),
    (
        "vm_clone_stack",
        &["racknest vm clone-stack 'web*' db01 --suffix=-test --mode full --power-on"],
    ),
    ("vm_delete", &["racknest vm delete vm01", "racknest vm delete 'test*' --yes"]),
    (
        "vm_edit",
        &[
            "racknest vm edit vm01 --memory 1GiB --vcpus 2",
            "racknest vm edit db01 --memory-reservation 512 --cpu-reservation 500 --cpu-level high",
            "racknest vm edit vm01 --add-disk 4GiB --add-nic 'VM Network'",
            "racknest vm edit vm01 --grow-disk 0=16GiB",
            "racknest vm edit vm01 --remove-disk 1 --remove-nic 1",
            "racknest vm edit 'web*' --boot '[datastore1] guest/vmlinuz,[datastore1] guest/initramfs'",
        ],
    ),
    (
        "vm_move",
        &[
            "racknest vm move vm01 --host esx02      (as it runs, if it runs)",
            "racknest vm move vm01 --datastore fast --host esx02",
        ],
    ),
    (
        "vm_ha",
        &[
            "racknest vm ha db01 --priority high",
            "racknest vm ha web01 --depends-on db01 --readiness guest_heartbeat",
            "racknest vm ha 'test*' --priority disabled",
        ],
    ),
    (
        "cluster_ha",
        &[
            "racknest cluster ha lab --enable --profile lab --isolation-address gateway",
            "racknest cluster ha lab --isolation-response power_off --admission slots:1",
            "racknest cluster ha lab --profile vsphere --monitoring medium",
        ],
    ),
    (
        "cluster_rule_create",
        &[
            "racknest cluster rule create lab web-apart --kind apart --vm web01 --vm web02",
            "racknest cluster rule create lab licence --kind run_on --vm-group db --host-group licensed",
            "racknest cluster rule create lab order --kind start_after --vm-group web --after-group db",
        ],
    ),
    (
        "cluster_group_create",
        &[
            "racknest cluster group create lab db --vm db01 --vm db02",
            "racknest cluster group create lab licensed --host esx01 --host esx02",
        ],
    ),
    ("cluster_group_edit", &["racknest cluster group edit lab db --add-vm db03"]),
    ("vm_console", &["racknest vm console vm01", "racknest vm console vm01 --port 5901"]),
    ("vm_serial", &["racknest vm serial vm01      (leave with Ctrl-])"]),
    ("vm_snapshot_create", &["racknest vm snapshot create vm01 before-upgrade --memory"]),
    (
        "cluster_drs",
        &[
            "racknest cluster drs lab",
            "racknest cluster drs lab --mode full --threshold 3",
            "racknest cluster drs lab --vm db01 --vm-mode off",
        ],
    ),
    ("cluster_apply", &["racknest cluster apply lab", "racknest cluster apply lab --number 3"]),
    ("pool_create", &["racknest pool create gold --parent lab --memory-reservation 4096"]),
    ("pool_move", &["racknest pool move silver gold", "racknest pool move silver lab"]),
    ("folder_create", &["racknest folder create web /datacenter1/vm"]),
    ("folder_move", &["racknest folder move web /datacenter1/vm/customers"]),
    ("host_move", &["racknest host move esx03 spare      (in maintenance, without VMs)"]),
    (
        "user_edit",
        &["racknest user edit alice --name bob", "racknest user edit bob --enabled false"],
    ),
    ("role_edit", &["racknest role edit operator --name night-shift"]),
    ("pool_edit", &["racknest pool edit gold --memory-shares 8000"]),
    ("role_create", &["racknest role create operator --privilege VirtualMachine.Interact.PowerOn"]),
    ("permission_create", &["racknest permission create / alice operator"]),
    (
        "network_edit",
        &[
            "racknest network edit 'VM Network' --promiscuous true --forged-transmits true",
            "racknest network edit web --shaping-in 10000:20000:512 --broadcast-limit 100",
            "racknest network edit web --teaming explicit --active-nic vmnic1 --standby-nic vmnic0",
            "racknest network edit web --private-part isolated --private-vlan 101",
            "racknest network edit web --subnet 10.1.0.0/24 --dns-domain lab --nat true",
            "racknest network edit db --routed true --firewall allow,from=web,protocol=tcp,ports=5432 --firewall-default deny",
            "racknest network edit web --reservation 02:00:00:00:00:01=10.1.0.9,name=printer",
            "racknest network edit web --spoof-guard true --arp-suppression true",
        ],
    ),
    (
        "network_create",
        &[
            "racknest network create web --vlan 10",
            "racknest network create web-test --copy-of web      (fenced: same addresses, no way there)",
        ],
    ),
    (
        "network_forward",
        &[
            "racknest network forward web01 80                        (127.0.0.1:10080 leads there)",
            "racknest network forward web01 53 --protocol udp --listen 0.0.0.0:5353",
        ],
    ),
    ("network_leases", &["racknest network leases", "racknest network leases 'web*'"]),
    (
        "network_ports",
        &["racknest network ports --host esx01", "racknest network ports --vm web01"],
    ),
    (
        "network_create",
        &[
            "racknest network create web --vlan 20",
            "racknest network create db --switch dvs1 --ports 24 --auto-expand false",
            "racknest network create spare --binding ephemeral",
        ],
    ),
    (
        "switch_create",
        &[
            "racknest switch create dvs1 --mtu 9000 --uplink uplink1 --uplink uplink2",
            "racknest switch create vSwitch1 --host esx01 --nic vmnic1      (a standard switch)",
        ],
    ),
    (
        "switch_edit",
        &[
            "racknest switch edit dvs1 --mtu 9000 --atomic",
            "racknest switch edit DSwitch --health-check true",
        ],
    ),
    (
        "switch_add_host",
        &[
            "racknest switch add-host dvs1 esx01 --nic vmnic1",
            "racknest switch add-host dvs1 esx01 --nic uplink2=vmnic1 --atomic",
        ],
    ),
    ("network_health", &["racknest network health", "racknest network health DSwitch"]),
    ("network_repair", &["racknest network repair", "racknest network repair dvs1"]),
    (
        "network_export",
        &["racknest network export dvs1 --file dvs1.json", "racknest network export"],
    ),
    (
        "network_import",
        &["racknest network import dvs1.json --preview", "racknest network import dvs1.json"],
    ),
    (
        "vmkernel_create",
        &[
            "racknest vmkernel create esx01 --network vMotion --address 10.1.0.1/24 --service migration",
        ],
    ),
    (
        "vmkernel_edit",
        &[
            "racknest vmkernel edit esx01 vmk0 --network Management",
            "racknest vmkernel edit esx01 vmk0 --network ''      (all NICs again)",
        ],
    ),
    ("network_trace", &["racknest network trace web01 db01"]),
    ("network_flows", &["racknest network flows", "racknest network flows web01 --limit 10"]),
    (
        "network_mirror_create",
        &[
            "racknest network mirror create watch --from web01 --from db01 --to-vm sensor",
            "racknest network mirror create tape --vlan 100 --file 64MiB",
            "racknest network mirror create out --from esx01/vmnic0 --to-address 192.0.2.7:4789",
        ],
    ),
    (
        "network_configure",
        &[
            "racknest network configure --collector 192.0.2.7:4739 --sampling 10",
            "racknest network configure --collector none",
            "racknest network configure --snooping true",
            "racknest network configure --discovery listen --discovery-protocol cdp",
        ],
    ),
    (
        "network_tcpdump",
        &[
            "racknest network tcpdump web01 -w web01.pcapng --seconds 10",
            "racknest network tcpdump esx01/vmnic0           (| tshark -r -)",
        ],
    ),
    ("datastore_upload", &["racknest datastore upload datastore1 debian.iso iso/debian.iso"]),
    ("datastore_download", &["racknest datastore download datastore1 iso/debian.iso"]),
    (
        "link_cut",
        &[
            "racknest link cut esx03 vmnic0 vmnic1",
            "racknest link cut esx03 vmhba0               (the storage path)",
            "racknest link cut esx03 vmhba0 --permanent",
            "racknest link cut esx03 vmnic0 --for 5s --every 20s --times 10     (it flaps)",
        ],
    ),
    (
        "vm_wire_slow",
        &[
            "racknest vm wire slow web01 0 --delay 50ms --jitter 10ms --loss 2%",
            "racknest vm wire slow web01 0 --cut --one-way in --for 10s --every 1min --times 5",
        ],
    ),
    (
        "vm_wire_cut",
        &["racknest vm wire cut web01 0", "racknest vm wire cut web01 0 --after 10s --for 30s"],
    ),
    ("vm_wire_restore", &["racknest vm wire restore web01 0"]),
    (
        "link_setup",
        &[
            "racknest link setup esx03 vmnic1 --vlans 10,20-29 --mtu 1500",
            "racknest link setup esx03 vmnic0 vmnic1 --vlans all --mtu 9000",
        ],
    ),
    ("link_restore", &["racknest link restore esx03 vmnic0 vmnic1 vmhba0"]),
    (
        "link_slow",
        &[
            "racknest link slow esx03 vmnic0 --delay 50ms --jitter 10ms --loss 2% --rate 10mbit",
            "racknest link slow esx03 vmnic0 vmnic1 --cut --one-way in",
            "racknest link slow esx03 vmnic0 --loss 20% --seed 7 --for 10s --every 1min",
        ],
    ),
    (
        "drill_start",
        &[
            "racknest drill start fail-host esx03",
            "racknest drill start slow-link esx03 --delay 200ms --rate 10mbit",
            "racknest drill start rack-power --rack rack2",
            "racknest drill start kill-manager",
        ],
    ),
    ("drill_preview", &["racknest drill preview isolate-host esx03"]),
    (
        "drill_run",
        &[
            "racknest drill run game-day.toml",
            "racknest drill run game-day.toml --markdown report.md --json report.json",
        ],
    ),
    ("drill_undo", &["racknest drill undo last"]),
    ("drill_show", &["racknest drill show last"]),
    ("host_health", &["racknest host health esx03 moderate --part memory"]),
    (
        "cluster_remediate",
        &[
            "racknest cluster remediate lab --hook patch.sh --dry-run",
            "racknest cluster remediate lab --hook patch.sh",
            "racknest cluster remediate lab --agent ./racknest --host esx01 --host esx02",
            "racknest cluster remediate lab --resume",
        ],
    ),
    (
        "host_upgrade",
        &["racknest host upgrade esx01", "racknest host upgrade esx01 --agent ./racknest"],
    ),
    ("host_add", &["racknest host add esx09 --cluster lab --rack rack2"]),
    (
        "stats_query",
        &["racknest stats show host/esx01", "racknest stats show vm/vm01 --interval day"],
    ),
    ("event_list", &["racknest event list --kind VmPoweredOn"]),
    ("task_wait", &["racknest task wait task-42"]),
];

/// What a placeholder stands for in an example.
const SAMPLES: &[(&str, &str)] = &[
    ("vm", "vm01"),
    ("host", "esx01"),
    ("cluster", "lab"),
    ("datastore", "datastore1"),
    ("network", "'VM Network'"),
    ("mirror", "watch"),
    ("nic", "vmnic0"),
    ("switch", "dvs1"),
    ("adapter", "vmk1"),
    ("pool", "gold"),
    ("parent", "lab"),
    ("folder", "web"),
    ("group", "db"),
    ("rule", "web-apart"),
    ("datacenter", "datacenter1"),
    ("snapshot", "before-upgrade"),
    ("user", "alice"),
    ("role", "operator"),
    ("task", "task-42"),
    ("session", "session-7"),
    ("token", "session-7"),
    ("permission", "permission-3"),
    ("forward", "42"),
    ("alarm", "alarm-1"),
    ("drill", "drill-12"),
    ("entity", "host-3"),
    ("directory", "/srv/datastore2"),
    ("home", "'[datastore1] web01'"),
    ("path", "iso"),
];

/// Every verb, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = Verb> {
    let own = racknest_api::operations().map(|row| Verb { row: *row, words: words(row.id) });
    // A verb that is made of another's requests has an id of its own.
    let composed =
        [("drill_run", "box_about"), ("event_follow", "change_watch"), ("task_wait", "task_show")];
    let composed = composed.into_iter().map(|(id, of)| Verb {
        row: OperationRow { id, summary: composed_summary(id), ..*row(of) },
        words: words(id),
    });
    own.chain(composed)
}

fn composed_summary(id: &str) -> &'static str {
    match id {
        "drill_run" => "Plays an exercise from a file and reports; ends with 1 if it fails.",
        "event_follow" => "Prints events as they happen.",
        _ => "Waits until a task ends, and ends as it does.",
    }
}

/// `vm_power_on` is `vm power-on`, `vm_snapshot_create` is `vm snapshot create`.
fn words(id: &str) -> Vec<String> {
    let (kind, verb) = id.split_once('_').unwrap_or((id, ""));
    match verb.split_once('_') {
        Some((level, verb)) if LEVELS.iter().any(|(known, _)| *known == level) => {
            vec![kind.to_owned(), level.to_owned(), dashed(verb)]
        }
        Some(_) | None => vec![kind.to_owned(), dashed(verb)],
    }
}

fn dashed(words: &str) -> String {
    words.replace('_', "-")
}

impl Verb {
    /// The kind of object, which is the first word.
    pub(crate) fn kind(&self) -> String {
        self.words[0].clone()
    }

    /// How it is called in messages: `vm power-on`.
    pub(crate) fn name(&self) -> String {
        self.words.join(" ")
    }

    /// Puts it below the command of its kind.
    pub(crate) fn add_to(&self, kind: Command) -> Command {
        let [_, levels @ .., last] = self.words.as_slice() else { return kind };
        let command = self.command(last);
        let Some(level) = levels.first() else { return kind.subcommand(command) };
        if kind.get_subcommands().any(|known| known.get_name() == level) {
            return kind.mut_subcommand(level, |group| group.subcommand(command));
        }
        let about = LEVELS.iter().find(|(known, _)| known == level).map_or("", |level| level.1);
        let group = Command::new(level.clone()).about(about);
        let group = group.subcommand_required(true).arg_required_else_help(true);
        kind.subcommand(group.subcommand(command))
    }

    fn command(&self, word: &str) -> Command {
        let about = self.row.summary.trim_end_matches('.').to_owned();
        let command = Command::new(word.to_owned()).about(about);
        let aliases = ALIASES.iter().filter(|(id, _)| *id == self.row.id);
        let command =
            command.visible_aliases(aliases.flat_map(|(_, aliases)| aliases.iter().copied()));
        let inputs = input::inputs(&self.row);
        let takes_many = self.takes_many(&inputs);
        let parameters: Vec<&str> = self.row.parameters().collect();
        let command = command.args(parameters.iter().map(|name| {
            let argument = Arg::new(path_argument(name)).required(true);
            let argument = argument.value_name(name.to_uppercase());
            if takes_many || (self.takes_many_nics() && *name == "nic") {
                argument.num_args(1..).help("Names or ids; '*' stands for any letters")
            } else {
                argument.help("Its name or id")
            }
        }));
        let command = command.args(inputs.iter().map(input::Input::argument));
        let has_own_wait = inputs.iter().any(|input| input.name == "wait");
        let command =
            if has_own_wait { command } else { command.arg(super::Setting::wait_argument()) };
        let command = match self.row.id {
            _ if self.is_list() => list_arguments(command),
            "session_login" => session::login_arguments(command),
            "vm_console" => console::screen_arguments(command),
            "vm_screenshot" => file::screenshot_arguments(command),
            "network_export" => transfer::export_arguments(command),
            "network_import" => transfer::import_arguments(command),
            "network_tcpdump" => file::capture_arguments(command),
            "datastore_upload" => file::upload_arguments(command),
            "datastore_download" => file::download_arguments(command),
            "stats_query" => stats::arguments(command),
            "drill_run" => drill::run_arguments(command),
            "event_follow" => event::follow_arguments(command),
            _ if takes_many && self.is_deletion() => command.arg(
                Arg::new("yes")
                    .short('y')
                    .long("yes")
                    .action(ArgAction::SetTrue)
                    .help("Do not ask before several are deleted"),
            ),
            _ => command,
        };
        command.after_help(format!("Examples:\n  {}", self.examples(&inputs).join("\n  ")))
    }

    /// Whether several objects can be named at once.
    pub(crate) fn takes_many(&self, inputs: &[input::Input]) -> bool {
        self.row.parameters().count() == 1
            && !self.is_list()
            && !inputs.iter().any(input::Input::is_by_place)
            && super::select::can_list(self.row.parameters().next().unwrap_or_default())
            && self.row.answer.media_type().is_none_or(|media| media == "application/json")
            && self.row.answer != racknest_api::operation::AnswerForm::Socket
    }

    /// Whether several NICs of one host can be named at once.
    pub(crate) fn takes_many_nics(&self) -> bool {
        self.row.parameters().eq(["host", "nic"])
    }

    /// Whether it deletes what it names.
    pub(crate) fn is_deletion(&self) -> bool {
        self.row.method == racknest_api::operation::Method::Delete
    }

    /// Whether it answers a list.
    pub(crate) fn is_list(&self) -> bool {
        const LAST: &[&str] = &[
            "list",
            "browse",
            "states",
            "counters",
            "latest",
            "ports",
            "macs",
            "trace",
            "hosts",
            "leases",
            "firewall",
            "forwards",
            "neighbours",
            "flows",
            "topology",
        ];
        let last = self.words.last().map(String::as_str);
        // `box health` is one answer.
        last.is_some_and(|last| LAST.contains(&last)) || self.row.id == "network_health"
    }

    fn examples(&self, inputs: &[input::Input]) -> Vec<String> {
        if let Some((_, examples)) = EXAMPLES.iter().find(|(id, _)| *id == self.row.id) {
            return examples.iter().map(|example| (*example).to_owned()).collect();
        }
        let mut words = vec!["racknest".to_owned(), self.name()];
        words.extend(self.row.parameters().map(|name| sample(name, &self.words[0])));
        let by_place = inputs.iter().filter(|input| input.is_required_by_place());
        words.extend(by_place.map(|input| sample(&input.name, &self.words[0])));
        vec![words.join(" ")]
    }
}

/// What stands for a name in an example; a new object has the name its kind usually has.
fn sample(name: &str, kind: &str) -> String {
    let key = if name == "name" { kind } else { name };
    SAMPLES
        .iter()
        .find(|(known, _)| *known == key)
        .map_or_else(|| name.to_uppercase(), |(_, sample)| (*sample).to_owned())
}

fn list_arguments(command: Command) -> Command {
    let limit = Arg::new("limit").long("limit").value_name("NUMBER");
    command.arg(limit.value_parser(clap::value_parser!(usize)).help("List at most so many"))
}
