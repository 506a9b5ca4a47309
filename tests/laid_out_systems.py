"""Directories laid out like a system's files, for `edgeemo doctor`: the layout is real, no Jetson runs here."""

from edge_runtime.doctor.system import System

STATES = {"ok", "can be better", "missing", "optional", "unknown"}

ORIN = {
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "/var/lib/dpkg/status": "Package: nvidia-jetpack-runtime\nStatus: install ok installed\nVersion: 6.2\n\n"
    "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\nDescription: NVIDIA\n more: of it\n",
    "/etc/nvpmodel.conf": "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n",
    "/var/lib/nvpmodel/status": "pmode:0001",
    "/sys/devices/system/cpu/online": "0-3,5\n",
    "/sys/devices/system/cpu/present": "0-5\n",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_driver": "cppc_cpufreq\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "51500\n",
    "/sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "/sys/class/thermal/thermal_zone1/temp": "",
    "/proc/meminfo": "MemTotal:        7802000 kB\nMemFree:          201000 kB\nMemAvailable:    5200000 kB\n"
    "HugePages_Total:       0\n",
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 atomics asimdhp asimddp\n",
    "/proc/asound/cards": " 0 [HDA            ]: tegra-hda - NVIDIA Jetson Orin Nano HDA\n",
    "/run/systemd/timesync/synchronized": "",
}


def laid_out(root, **changes):
    """Lay a system's files out below a root; a change with None leaves one out."""
    for name, content in (ORIN | changes.pop("files", {})).items():
        if content is not None:
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return System(root)


def command(root, name, script):
    path = root / "usr/sbin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def by_name(findings):
    findings = list(findings)
    assert all(each.state in STATES and each.found for each in findings)
    assert all(each.remedy for each in findings if each.state in ("missing", "can be better"))
    return {each.what: each for each in findings}
