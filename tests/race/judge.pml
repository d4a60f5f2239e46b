/* The judge of an end, for SPIN: what growth.pml came to, as a sum of LABEL_ constants.

   Written from docs/races.md, "How an end is judged". `each_operation` (promela.py) names every
   CPU's calls in order. Nothing here is part of a state. */

#define LEAF(t, m) mem[WORD(mem[TOP + (t)], m)]
#define REACHED(t, m) (IS_P(mem[TOP + (t)]) && IS_P(LEAF(t, m)))
#define HANDED_OUT(page) (page < next_page || MERGED && was_taken[page])
#define ADD(label) labels = labels | LABEL_##label
#define WHEN(condition, label) if :: condition -> ADD(label) :: else fi

hidden int labels;
hidden byte true_value[8 * CPUS];
hidden byte has_true[8 * CPUS];
hidden byte c;
hidden byte t;
hidden byte m;
hidden byte k;
hidden byte page_roles;
hidden byte highest;
hidden byte any_true;
hidden byte is_right;

inline set_came_to(who, number, its_pfn, its_value) {
  if
  :: result[who * OPS + number] == TRUE ->
     true_value[8 * who + its_pfn] = its_value;
     has_true[8 * who + its_pfn] = 1
  :: else -> ADD(false)
  fi
}

/* `others` says whether `seen` is what another CPU sets there. */
inline get_came_to(who, number, its_pfn, others) {
  seen = result[who * OPS + number];
  if
  :: has_true[8 * who + its_pfn] -> is_right = seen == true_value[8 * who + its_pfn]
  :: else -> is_right = seen == first[its_pfn]
  fi;
  WHEN(!is_right && !(others), read)
}

inline judge_values() {
  highest = 0;
  k = 0;
  do
  :: k < 8 ->
     if
     :: REACHED(k / 4, (k / 2) % 2) ->
        seen = mem[WORD(LEAF(k / 4, (k / 2) % 2), k % 2)];
        any_true = 0;
        is_right = 0;
        for (c : 0 .. CPUS - 1) {
          any_true = any_true || has_true[8 * c + k];
          is_right = is_right || has_true[8 * c + k] && true_value[8 * c + k] == seen
        }
        WHEN(any_true && !is_right, lost);
        WHEN(!any_true && seen != first[k], stray);
        highest = (seen != INVALID -> k + 1 : highest)
     :: else -> ADD(wild)
     fi;
     k++
  :: else -> break
  od;
  WHEN(KERNEL == NEW && mem[SHMAX] < highest, max)
}

inline judge_pages() {
  WHEN(uaf_read || uaf_write, uaf);
  k = 3;
  do
  :: k < PAGES ->
     page_roles = 0;
     for (t : 0 .. 1) {
       page_roles = page_roles + (mem[TOP + t] == P(k) -> 1 : 0);
       page_roles = page_roles + (mem[TM + t] == M(k) || mem[TP + t] == P(k) -> 1 : 0);
       for (m : 0 .. 1) {
         page_roles = page_roles + (IS_P(mem[TOP + t]) && LEAF(t, m) == P(k) -> 1 : 0)
       }
     }
     WHEN(HANDED_OUT(k) && page_roles == 0 && !is_free[k], leak);
     WHEN(page_roles > 0 && is_free[k], freed_in_tree);
     WHEN(page_roles > 1, alias);
     k++
  :: else -> break
  od
}

inline judge_list() {
  for (t : 0 .. 1) {
    WHEN(mem[TM + t] != M(PAGE(mem[TP + t])), mirror);
    for (m : 0 .. 1) {
      WHEN(REACHED(t, m) && mem[WORD(mem[TM + t], m)] != M(PAGE(LEAF(t, m))), list)
    }
  }
}

inline judge_walk() {
  k = 0;
  do
  :: k < 8 ->
     if
     :: REACHED(k / 4, (k / 2) % 2) ->
        seen = mem[WORD(LEAF(k / 4, (k / 2) % 2), k % 2)];
        c = INVALID;
        if
        :: k <= max -> c = mem[WORD(fl[k / 2], k % 2)]
        :: else
        fi;
        WHEN(seen != INVALID && c != seen, T_lost);
        WHEN(seen == INVALID && c != INVALID, T_ghost)
     :: else
     fi;
     k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < num_fl ->
     if
     :: REACHED(k / 2, k % 2) ->
        WHEN(PAGE(LEAF(k / 2, k % 2)) != PAGE(fl[k]), T_misdirected)
     :: else -> ADD(T_misdirected)
     fi;
     k++
  :: else -> break
  od
}

inline judge() {
  labels = 0;
  if
  :: bug -> ADD(bug)
  :: fault -> ADD(fault)
  :: else ->
     for (c : 0 .. 8 * CPUS - 1) {
       true_value[c] = 0;
       has_true[c] = 0
     }
     each_operation();
     judge_values();
     judge_pages();
     judge_list();
     if
     :: TOOLSTACK == NONE
     :: TOOLSTACK != NONE && failed -> ADD(T_fail)
     :: TOOLSTACK == LIST && !failed && mem[GEN] != generation -> ADD(T_abort)
     :: else -> judge_walk()
     fi
  fi
}
