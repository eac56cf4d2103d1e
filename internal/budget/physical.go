package budget

// Physical is how much memory the process can have in all, mapped files
// included: the smaller of its cgroups' limits and the machine's memory.
func Physical() int64 {
	machine := machineMemory()
	if machine == 0 {
		machine = unknownMemory
	}
	return min(machine, cgroupLimit("/sys/fs/cgroup", "/proc/self/cgroup"))
}
