//! System calls that are taken away: those that start programs, change files, mounts, identities, the machine or other
//! processes, and those that open a file for writing. They fail with EPERM.
//!
//! What is taken is listed and not what is left, because what a C library and a kernel use among themselves changes
//! from year to year, and an exporter that dies of an update protects nobody.

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

const TAKEN: [i64; 74] = [
    // programs and other processes
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    // files
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_openat2,
    // mounts and name spaces
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_unshare,
    libc::SYS_setns,
    // identities
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // the machine
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_personality,
    // much of the kernel at once, and new clients
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_listen,
];

/// What only this processor's oldest calls have.
#[cfg(target_arch = "x86_64")]
const TAKEN_HERE: [i64; 17] = [
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utimes,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const TAKEN_HERE: [i64; 0] = [];

#[cfg(target_arch = "x86_64")]
const UNLINK: &[i64] = &[libc::SYS_unlinkat, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const UNLINK: &[i64] = &[libc::SYS_unlinkat];

/// Calls that open files, and the place of their flags.
#[cfg(target_arch = "x86_64")]
const OPEN: &[(i64, u8)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPEN: &[(i64, u8)] = &[(libc::SYS_openat, 2)];

/// Takes the calls from this thread and all that it starts; `unlink` and `perf` leave those.
pub(super) fn restrict(unlink: bool, perf: bool) -> Result<(), Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut taken: Vec<i64> = TAKEN.iter().chain(&TAKEN_HERE).copied().collect();
    if !unlink {
        taken.extend(UNLINK);
    }
    if !perf {
        taken.push(libc::SYS_perf_event_open);
    }
    rules.extend(taken.into_iter().map(|call| (call, Vec::new())));
    for (call, place) in OPEN {
        rules.insert(*call, writing(*place)?);
    }
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

/// Flags that ask for more than reading.
fn writing(place: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let wanted = |mask: i32, value: i32| {
        let op = SeccompCmpOp::MaskedEq(mask as u64);
        SeccompRule::new(vec![SeccompCondition::new(place, SeccompCmpArgLen::Dword, op, value as u64)?])
    };
    [(libc::O_ACCMODE, libc::O_WRONLY), (libc::O_ACCMODE, libc::O_RDWR), (libc::O_CREAT, libc::O_CREAT)]
        .into_iter()
        .map(|(mask, value)| wanted(mask, value))
        .collect()
}
