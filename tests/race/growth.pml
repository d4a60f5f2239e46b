/* Races in the growth of the p2m: the steps and the judge, for SPIN.

   Written from docs/races.md and the description of the steps alone; promela.py puts the constants,
   the first memory, the CPUs and the operations of one configuration before it. Every step is one
   d_step, chosen by `pc`, so that SPIN's states are those that are counted, with one more for each
   judged end. What is hidden belongs to a step or to the judge and is no part of a state. */

#define LM 0
#define MM 1
#define XM 2
#define INVALID 255
#define P(page) (100 + (page))
#define M(page) (200 + (page))
#define IS_P(word) ((word) >= 100 && (word) < 200)
#define IS_M(word) ((word) >= 200 && (word) < 255)
#define PAGE(word) ((word) % 100)

#define TOP 0
#define TM 2
#define TP 4
#define GEN 6
#define LAST 7
#define SHMAX 8
#define LOCK 9
#define WORD(pointer, index) (PAGES_AT + 2 * PAGE(pointer) + (index))

#define T (pfn / 4)
#define ENTRY ((pfn / 2) % 2)
#define REPAIRED (KERNEL != OLD && KERNEL != ORIG)
#define QUIET(who) (buffered[who] == 0)
#define MAY_TAKE(who) (ALLOCATOR != ANY || QUIET(who))
#define AT_A_PAGE(who) \
  (pc[who] == A2 || pc[who] == A3 || pc[who] == A5 || pc[who] == A8 || pc[who] == A9 || \
   pc[who] == A11f || pc[who] == A14 || pc[who] == A15 || pc[who] == A18)

hidden byte i;
hidden byte seen;

/* Memory: a load takes the newest store of its own CPU that is on its way, else memory. */

inline load(who, into, where) {
  into = mem[where];
  i = 0;
  do
  :: i < buffered[who] ->
     if
     :: fifo_at[who * FIFO + i] == where -> into = fifo_word[who * FIFO + i]
     :: else
     fi;
     i++
  :: else -> break
  od
}

inline store(who, where, word) {
  if
  :: TSO ->
     assert(buffered[who] < FIFO);
     fifo_at[who * FIFO + buffered[who]] = where;
     fifo_word[who * FIFO + buffered[who]] = word;
     buffered[who]++
  :: else -> mem[where] = word
  fi
}

inline flush_oldest(who) {
  mem[fifo_at[who * FIFO]] = fifo_word[who * FIFO];
  buffered[who]--;
  i = 0;
  do
  :: i < buffered[who] ->
     fifo_at[who * FIFO + i] = fifo_at[who * FIFO + i + 1];
     fifo_word[who * FIFO + i] = fifo_word[who * FIFO + i + 1];
     i++
  :: else -> break
  od;
  fifo_at[who * FIFO + buffered[who]] = 0;
  fifo_word[who * FIFO + buffered[who]] = 0
}

inline fill(who, page, word) {
  store(who, WORD(page, 0), word);
  store(who, WORD(page, 1), word)
}

/* Pages. Which free page there is to take is an option of its own under `any` (promela.py). */

inline take_next(who, into) {
  if
  :: ALLOCATOR == OWN && num_freed[who] > 0 ->
     num_freed[who]--;
     seen = freed[who * STACK + num_freed[who]];
     freed[who * STACK + num_freed[who]] = 0
  :: MERGED ->
     seen = own_pages[who * OPS + op] + (pc[who] == A2 -> 0 : (pc[who] == A8 -> 1 : 2));
     was_taken[seen] = 1
  :: else ->
     seen = next_page;
     next_page++;
     assert(next_page <= PAGES)
  fi;
  is_free[seen] = 0;
  into = P(seen)
}

inline release(who, pointer) {
  is_free[PAGE(pointer)] = 1;
  if
  :: ALLOCATOR == OWN ->
     freed[who * STACK + num_freed[who]] = PAGE(pointer);
     num_freed[who]++
  :: else
  fi
}

inline finish(who, word) {
  result[who * OPS + op] = word;
  op++;
  mid = 0; x = 0; q = 0; a = 0; b = 0; dead_mid = 0; dead_x = 0;
  begin(who);
  skip
}

/* Every option is one step of CPU `who`, with the local work that follows it. */

inline steps(who) {
  do
  :: d_step { buffered[who] > 0 -> flush_oldest(who) }

  :: d_step { pc[who] == G1 -> load(who, a, TOP + T); pc[who] = G2 }
  :: d_step { pc[who] == G2 ->
     if
     :: IS_P(a) -> load(who, b, WORD(a, ENTRY)); pc[who] = G3
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == G3 ->
     if
     :: IS_P(b) -> load(who, seen, WORD(b, pfn % 2)); finish(who, seen)
     :: else -> fault = 1
     fi }

  :: d_step { pc[who] == S1 -> load(who, a, TOP + T); pc[who] = S2 }
  :: d_step { pc[who] == S2 ->
     if
     :: IS_P(a) ->
        load(who, b, WORD(a, ENTRY));
        if
        :: b == P(LM) && value == INVALID -> finish(who, TRUE)
        :: b == P(LM) && value != INVALID -> pc[who] = A1
        :: else -> pc[who] = S3
        fi
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == S3 || pc[who] == T3 ->
     if
     :: IS_P(b) -> store(who, WORD(b, pfn % 2), value); finish(who, TRUE)
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == T1 ->
     if
     :: MERGED -> mid = 0; x = 0; q = 0; b = 0; dead_mid = 0; dead_x = 0
     :: else
     fi;
     load(who, a, TOP + T);
     pc[who] = T2 }
  :: d_step { pc[who] == T2 ->
     if
     :: IS_P(a) ->
        load(who, b, WORD(a, ENTRY));
        if
        :: b == P(LM) -> finish(who, FALSE)
        :: else -> pc[who] = T3
        fi
     :: else -> fault = 1
     fi }

  :: d_step { pc[who] == A1 ->
     load(who, mid, TOP + T);
     a = mid;
     if
     :: mid == P(MM) -> pc[who] = A2
     :: else -> pc[who] = A6
     fi }
  TAKING(who, A2, mid, A3)
  :: d_step { pc[who] == A3 ->
     fill(who, mid, P(LM));
     pc[who] = (KERNEL == NEW -> K1 : A4) }
  :: d_step { pc[who] == A4 && QUIET(who) ->
     if
     :: mem[TOP + T] == P(MM) -> mem[TOP + T] = mid; pc[who] = A6
     :: else -> pc[who] = A5
     fi }
  :: d_step { pc[who] == A5 && MAY_TAKE(who) ->
     release(who, mid);
     dead_mid = !REPAIRED;
     pc[who] = (REPAIRED -> A5r : A6) }
  :: d_step { pc[who] == A5r -> load(who, mid, TOP + T); a = mid; pc[who] = A6 }

  :: d_step { pc[who] == K1 && mem[LOCK] == 0 && QUIET(who) -> mem[LOCK] = 1; pc[who] = K2 }
  :: d_step { pc[who] == K2 ->
     load(who, seen, TOP + T);
     pc[who] = (seen == P(MM) -> K3 : K8) }
  :: d_step { pc[who] == K3 ->
     load(who, seen, GEN); store(who, GEN, seen + 1); pc[who] = K4 }
  :: d_step { pc[who] == K4 && QUIET(who) -> mem[TOP + T] = mid; pc[who] = K5 }
  :: d_step { pc[who] == K5 ->
     load(who, seen, GEN); store(who, GEN, seen + 1); pc[who] = K6 }
  :: d_step { pc[who] == K6 -> store(who, LOCK, 0); pc[who] = A5r }
  :: d_step { pc[who] == K8 -> store(who, LOCK, 0); pc[who] = A5 }

  :: d_step { pc[who] == A6 -> load(who, x, TP + T); pc[who] = A7 }
  :: d_step { pc[who] == A7 ->
     load(who, seen, TM + T);
     if
     :: seen != M(PAGE(x)) && !(KERNEL == RELAX && x == P(XM)) -> bug = 1
     :: else -> pc[who] = (x == P(XM) -> A8 : A12)
     fi }
  TAKING(who, A8, x, A9)
  :: d_step { pc[who] == A9 -> fill(who, x, M(LM)); pc[who] = A10 }
  :: d_step { pc[who] == A10 && QUIET(who) ->
     seen = mem[TM + T];
     if
     :: seen == M(XM) -> mem[TM + T] = M(PAGE(x)); pc[who] = A11
     :: else -> b = seen; pc[who] = A11f
     fi }
  :: d_step { pc[who] == A11 -> store(who, TP + T, x); pc[who] = A12 }
  :: d_step { pc[who] == A11f && MAY_TAKE(who) ->
     release(who, x);
     if
     :: REPAIRED -> x = P(PAGE(b))
     :: else -> dead_x = 1
     fi;
     pc[who] = A12 }

  :: d_step { pc[who] == A12 && KERNEL != NEW -> load(who, a, TOP + T); pc[who] = A13 }
  :: d_step { pc[who] == A12 && KERNEL == NEW ->
     if
     :: IS_P(mid) ->
        load(who, b, WORD(mid, ENTRY));
        pc[who] = (b == P(LM) -> A14 : Z1)
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == A13 ->
     if
     :: IS_P(a) ->
        load(who, b, WORD(a, ENTRY));
        if
        :: b != P(LM) -> pc[who] = T1
        :: b == P(LM) -> pc[who] = (KERNEL == ORIG -> O1 : A14)
        fi
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == O1 -> load(who, a, TOP + T); pc[who] = O2 }
  :: d_step { pc[who] == O2 ->
     if
     :: IS_P(a) -> load(who, b, WORD(a, ENTRY)); pc[who] = A14
     :: else -> fault = 1
     fi }
  TAKING(who, A14, q, A15)
  :: d_step { pc[who] == A15 ->
     fill(who, q, INVALID);
     pc[who] = (KERNEL == NEW -> J1 : A16) }
  :: d_step { pc[who] == A16 && QUIET(who) ->
     if
     :: !IS_P(mid) -> fault = 1
     :: IS_P(mid) && mem[WORD(mid, ENTRY)] == b ->
        mem[WORD(mid, ENTRY)] = q;
        uaf_write = uaf_write || dead_mid;
        pc[who] = A17
     :: else ->
        uaf_read = uaf_read || dead_mid;
        pc[who] = A18
     fi }
  :: d_step { pc[who] == A17 ->
     if
     :: IS_P(x) ->
        store(who, WORD(x, ENTRY), M(PAGE(q)));
        uaf_write = uaf_write || dead_x;
        pc[who] = T1
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == A18 && MAY_TAKE(who) ->
     release(who, q);
     pc[who] = (KERNEL == NEW -> Z1 : T1) }

  :: d_step { pc[who] == J1 && mem[LOCK] == 0 && QUIET(who) -> mem[LOCK] = 1; pc[who] = J2 }
  :: d_step { pc[who] == J2 ->
     if
     :: IS_P(mid) -> load(who, seen, WORD(mid, ENTRY)); pc[who] = (seen == b -> J3 : J8)
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == J3 ->
     load(who, seen, GEN); store(who, GEN, seen + 1); pc[who] = J4 }
  :: d_step { pc[who] == J4 && QUIET(who) -> mem[WORD(mid, ENTRY)] = q; pc[who] = J5 }
  :: d_step { pc[who] == J5 ->
     load(who, seen, GEN); store(who, GEN, seen + 1); pc[who] = J6 }
  :: d_step { pc[who] == J6 ->
     if
     :: IS_P(x) -> store(who, WORD(x, ENTRY), M(PAGE(q))); pc[who] = J7
     :: else -> fault = 1
     fi }
  :: d_step { pc[who] == J7 -> store(who, LOCK, 0); pc[who] = Z1 }
  :: d_step { pc[who] == J8 -> store(who, LOCK, 0); pc[who] = A18 }
  :: d_step { pc[who] == Z1 ->
     load(who, seen, LAST);
     if
     :: pfn >= seen -> b = (pfn / 2 + 1) * 2; pc[who] = Z2
     :: else -> pc[who] = T1
     fi }
  :: d_step { pc[who] == Z2 -> store(who, LAST, b); pc[who] = Z3 }
  :: d_step { pc[who] == Z3 -> store(who, SHMAX, b); pc[who] = T1 }
  od
}

/* The toolstack: `tree` follows MFNs from p2m_top_mfn, `list` addresses from p2m_top. */

#define RIGHT_KIND(word) (TOOLSTACK == TREE && IS_M(word) || TOOLSTACK == LIST && IS_P(word))

inline walk() {
  do
  :: d_step { walking == W0 ->
     max = mem[SHMAX] - 1;
     walking = (TOOLSTACK == LIST -> WG : W1) }
  :: d_step { walking == WG -> generation = mem[GEN]; walking = W1 }
  :: d_step { walking == W1 ->
     fll[num_fll] = mem[(TOOLSTACK == LIST -> TOP : TM) + num_fll];
     num_fll++;
     if
     :: num_fll == max / 4 + 1 -> trim(); walking = W2
     :: else
     fi }
  :: d_step { walking == W2 ->
     if
     :: !RIGHT_KIND(fll[num_fl / 2]) -> failed = 1; walking = DONE
     :: else ->
        seen = mem[WORD(fll[num_fl / 2], num_fl % 2)];
        if
        :: !RIGHT_KIND(seen) -> failed = 1; walking = DONE
        :: else ->
           fl[num_fl] = seen;
           num_fl++;
           walking = (num_fl == max / 2 + 1 -> DONE : W2)
        fi
     fi }
  od
}

/* The trailing run of equal words is cut off the walk, but for its first one in a tree. */
inline trim() {
  i = num_fll - 1;
  do
  :: i > 0 && fll[i - 1] == fll[num_fll - 1] -> i--
  :: else -> break
  od;
  if
  :: TOOLSTACK == TREE -> i++
  :: TOOLSTACK == LIST && i == num_fll - 1 -> i++
  :: else
  fi;
  if
  :: i > 0 && i * 4 - 1 < max -> max = i * 4 - 1
  :: else
  fi
}
