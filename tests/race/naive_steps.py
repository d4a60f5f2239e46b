"""The naive explorer's steps of a CPU: see `naive`."""

from __future__ import annotations

from race.naive_memory import (
    FENCED,
    FREES,
    INVALID,
    LM,
    MM,
    SHARED,
    TAKES,
    XM,
    Cpu,
    Memory,
    N,
    Word,
    is_pointer,
    machine,
    pointer,
)


class Steps(Memory):
    """Memory and what the CPUs do to it, a step at a time."""

    # Steps

    def flag(self, name: str) -> None:
        self.flags = tuple(sorted({*self.flags, name}))

    def run_step(self, who: int, page: int) -> bool:
        """Run the next step of CPU `who`; False where it has to wait. `page` is what A2... take."""
        cpu = self.cpus[who]
        step = cpu.step
        waits = step in FENCED or (self.allocator == "any" and step in {*TAKES, *FREES})
        if cpu.fifo and waits:
            return False
        if step in ("K1", "J1") and self.words[SHARED.index("LOCK")] != 0:
            return False
        operation = cpu.program[cpu.number]
        pfn = operation[1]
        value = None if operation[0] == "get" else operation[2]
        value = INVALID if value == -1 else value
        t, m, i = pfn // (N * N), pfn // N % N, pfn % N
        reached = {"S2": cpu.a, "S3": cpu.b, "T2": cpu.a, "T3": cpu.b, "G2": cpu.a, "G3": cpu.b,
                   "A13": cpu.a, "O2": cpu.a, "A16": cpu.mid, "A17": cpu.x, "J2": cpu.mid,
                   "J4": cpu.mid, "J6": cpu.x}  # fmt: skip
        if self.kernel == "new":
            reached["A12"] = cpu.mid
        if step in reached and not is_pointer(reached[step]):
            self.flag("fault")
            return True
        getattr(self, "step_" + step)(who, cpu, pfn, t, m, i, value, page)
        return True

    def top(self, cpu: Cpu, t: int) -> Word:
        return self.load(cpu, SHARED.index(f"TOP{t}"))

    def step_G1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "G2"

    def step_G2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b, cpu.step = self.load(cpu, self.at(cpu.a[1], m)), "G3"

    def step_G3(self, who, cpu, pfn, t, m, i, value, page):
        cpu.finish(self.load(cpu, self.at(cpu.b[1], i)))

    def step_S1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "S2"

    def step_S2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b = self.load(cpu, self.at(cpu.a[1], m))
        if cpu.b != pointer(LM):
            cpu.step = "S3"
        elif value is INVALID:
            cpu.finish(True)
        else:
            cpu.step = "A1"

    def step_S3(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, self.at(cpu.b[1], i), value)
        cpu.finish(True)

    def step_T1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "T2"

    def step_T2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b, cpu.step = self.load(cpu, self.at(cpu.a[1], m)), "T3"
        if cpu.b == pointer(LM):
            cpu.finish(False)

    def step_T3(self, who, cpu, pfn, t, m, i, value, page):
        self.step_S3(who, cpu, pfn, t, m, i, value, page)

    def step_A1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.mid = cpu.a = self.top(cpu, t)
        cpu.step = "A2" if cpu.mid == pointer(MM) else "A6"

    def step_A2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.mid, cpu.step = self.take(who, page), "A3"

    def step_A3(self, who, cpu, pfn, t, m, i, value, page):
        self.fill(cpu, cpu.mid, pointer(LM))
        cpu.step = "K1" if self.kernel == "new" else "A4"

    def step_A4(self, who, cpu, pfn, t, m, i, value, page):
        won = self.top(cpu, t) == pointer(MM)
        if won:
            self.put(f"TOP{t}", cpu.mid)
        cpu.step = "A6" if won else "A5"

    def step_A5(self, who, cpu, pfn, t, m, i, value, page):
        self.release(who, cpu.mid[1])
        if self.kernel in ("old", "orig"):
            cpu.dead_mid, cpu.step = True, "A6"
        else:
            cpu.step = "A5r"

    def step_A5r(self, who, cpu, pfn, t, m, i, value, page):
        cpu.mid = cpu.a = self.top(cpu, t)
        cpu.step = "A6"

    def step_K1(self, who, cpu, pfn, t, m, i, value, page):
        self.put("LOCK", 1)
        cpu.step = "K2"

    def step_K2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.step = "K3" if self.top(cpu, t) == pointer(MM) else "K8"

    def count_generation(self, cpu: Cpu) -> None:
        address = SHARED.index("GEN")
        self.store(cpu, address, self.load(cpu, address) + 1)

    def step_K3(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "K4"

    def step_K4(self, who, cpu, pfn, t, m, i, value, page):
        self.put(f"TOP{t}", cpu.mid)
        cpu.step = "K5"

    def step_K5(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "K6"

    def unlock(self, cpu: Cpu) -> None:
        self.store(cpu, SHARED.index("LOCK"), 0)

    def step_K6(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "A5r"

    def step_K8(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "A5"

    def step_A6(self, who, cpu, pfn, t, m, i, value, page):
        cpu.x, cpu.step = self.load(cpu, SHARED.index(f"TP{t}")), "A7"

    def step_A7(self, who, cpu, pfn, t, m, i, value, page):
        shared = cpu.x == pointer(XM)
        found = self.load(cpu, SHARED.index(f"TM{t}"))
        if found != machine(cpu.x[1]) and not (shared and self.kernel == "relax"):
            self.flag("bug")
        else:
            cpu.step = "A8" if shared else "A12"

    def step_A8(self, who, cpu, pfn, t, m, i, value, page):
        cpu.x, cpu.step = self.take(who, page), "A9"

    def step_A9(self, who, cpu, pfn, t, m, i, value, page):
        self.fill(cpu, cpu.x, machine(LM))
        cpu.step = "A10"

    def step_A10(self, who, cpu, pfn, t, m, i, value, page):
        found = self.load(cpu, SHARED.index(f"TM{t}"))
        if found == machine(XM):
            self.put(f"TM{t}", machine(cpu.x[1]))
            cpu.step = "A11"
        else:
            cpu.b, cpu.step = found, "A11f"

    def step_A11(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, SHARED.index(f"TP{t}"), cpu.x)
        cpu.step = "A12"

    def step_A11f(self, who, cpu, pfn, t, m, i, value, page):
        self.release(who, cpu.x[1])
        if self.kernel in ("old", "orig"):
            cpu.dead_x = True
        else:
            cpu.x = pointer(cpu.b[1])
        cpu.step = "A12"

    def step_A12(self, who, cpu, pfn, t, m, i, value, page):
        if self.kernel == "new":
            cpu.b = self.load(cpu, self.at(cpu.mid[1], m))
            cpu.step = "A14" if cpu.b == pointer(LM) else "Z1"
        else:
            cpu.a, cpu.step = self.top(cpu, t), "A13"

    def step_A13(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b = self.load(cpu, self.at(cpu.a[1], m))
        if cpu.b != pointer(LM):
            cpu.step = "T1"
        else:
            cpu.step = "O1" if self.kernel == "orig" else "A14"

    def step_O1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "O2"

    def step_O2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b, cpu.step = self.load(cpu, self.at(cpu.a[1], m)), "A14"

    def step_A14(self, who, cpu, pfn, t, m, i, value, page):
        cpu.q, cpu.step = self.take(who, page), "A15"

    def step_A15(self, who, cpu, pfn, t, m, i, value, page):
        self.fill(cpu, cpu.q, INVALID)
        cpu.step = "J1" if self.kernel == "new" else "A16"

    def step_A16(self, who, cpu, pfn, t, m, i, value, page):
        address = self.at(cpu.mid[1], m)
        won = self.words[address] == cpu.b
        if won:
            self.words[address] = cpu.q
        if cpu.dead_mid:
            self.flag("uaf-write" if won else "uaf-read")
        cpu.step = "A17" if won else "A18"

    def step_A17(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, self.at(cpu.x[1], m), machine(cpu.q[1]))
        if cpu.dead_x:
            self.flag("uaf-write")
        cpu.step = "T1"

    def step_A18(self, who, cpu, pfn, t, m, i, value, page):
        self.release(who, cpu.q[1])
        cpu.step = "Z1" if self.kernel == "new" else "T1"

    def step_J1(self, who, cpu, pfn, t, m, i, value, page):
        self.put("LOCK", 1)
        cpu.step = "J2"

    def step_J2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.step = "J3" if self.load(cpu, self.at(cpu.mid[1], m)) == cpu.b else "J8"

    def step_J3(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "J4"

    def step_J4(self, who, cpu, pfn, t, m, i, value, page):
        self.words[self.at(cpu.mid[1], m)] = cpu.q
        cpu.step = "J5"

    def step_J5(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "J6"

    def step_J6(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, self.at(cpu.x[1], m), machine(cpu.q[1]))
        cpu.step = "J7"

    def step_J7(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "Z1"

    def step_J8(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "A18"

    def step_Z1(self, who, cpu, pfn, t, m, i, value, page):
        if pfn >= self.load(cpu, SHARED.index("LAST")):
            cpu.b, cpu.step = (pfn // N + 1) * N, "Z2"
        else:
            cpu.step = "T1"

    def step_Z2(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, SHARED.index("LAST"), cpu.b)
        cpu.step = "Z3"

    def step_Z3(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, SHARED.index("SHMAX"), cpu.b)
        cpu.step = "T1"
