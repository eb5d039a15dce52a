//! Rules and groups: kept where they can hold, refused under their names where not.

use expect_test::expect;

use super::check;

#[test]
fn a_rule_that_cannot_hold_is_refused_by_name() {
    check(
        "host a; host b; create v; done v off; create w; done w off; create x; done x off;
         rule apart far v w; rule together near v w; rule apart three v w x; rule apart far v x;
         rule runon pin vms hosts; group vms vms v w; group hosts hosts a; rule runon pin vms hosts;
         group hosts hosts b; rule off far; rule runon pin vms hosts; rule on far; rule delete none",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > create w
              b <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > create x
              a <- x create x/disk0.qcow2 from [Empty]
            > done x off
              * Created x
              = vm_create x: Success
            > rule apart far v w
              * Reconfigured lab rule 'far' was made
            > rule together near v w
              ! InvalidArgument: rule 'near' contradicts rule 'far' about VM 'v' and VM 'w'
            > rule apart three v w x
              ! InvalidArgument: rule 'three' cannot hold: it takes 3 hosts, there are 2
            > rule apart far v x
              ! DuplicateName: rule 'far' exists in cluster 'lab' already
            > rule runon pin vms hosts
              ! InvalidArgument: rule 'pin': there is no group 'vms'
            > group vms vms v w
              * Reconfigured lab group 'vms' was made
            > group hosts hosts a
              * Reconfigured lab group 'hosts' was made
            > rule runon pin vms hosts
              ! InvalidArgument: rule 'pin' cannot hold because of rule 'far': it takes 2 hosts, there are 1
            > group hosts hosts b
              ! DuplicateName: group 'hosts' exists in cluster 'lab' already
            > rule off far
              * Reconfigured lab rule 'far' was disabled
            > rule runon pin vms hosts
              * Reconfigured lab rule 'pin' was made
            > rule on far
              ! InvalidArgument: rule 'pin' cannot hold because of rule 'far': it takes 2 hosts, there are 1
            > rule delete none
              ! NotFound: rule 'none' of cluster 'lab' does not exist
        "#]],
    );
}

#[test]
fn a_group_in_use_stays_and_loses_what_is_deleted() {
    check(
        "host a; host b; create v; done v off; create w; done w off; ha on;
         group vms web v; group vms db w; rule after order web db; group delete db; vmha w >v;
         delete w; done w off; group edit web v; rule delete order; group delete db; remove b",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > create w
              b <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > ha on
              * Reconfigured lab HA on
              a <- ha generation 1
              b <- ha generation 1
            > group vms web v
              * Reconfigured lab group 'web' was made
              a <- ha generation 2
              b <- ha generation 2
            > group vms db w
              * Reconfigured lab group 'db' was made
              a <- ha generation 3
              b <- ha generation 3
            > rule after order web db
              * Reconfigured lab rule 'order' was made
              a <- ha generation 4
              b <- ha generation 4
            > group delete db
              ! ResourceInUse: rule 'order' speaks of group 'db'; delete the rule first
            > vmha w >v
              ! InvalidArgument: the dependencies make a circle: w after v after w; leave one of them out
            > delete w
              b <- w delete w
            > done w off
              * Removed w with its files
              a <- ha generation 5
              b <- ha generation 5
              = vm_delete w: Success
            > group edit web v
            > rule delete order
              * Reconfigured lab rule 'order' was deleted
              a <- ha generation 6
              b <- ha generation 6
            > group delete db
              * Reconfigured lab group 'db' was deleted
              a <- ha generation 7
              b <- ha generation 7
            > remove b
              * Removed b
              a <- ha generation 8
        "#]],
    );
}
