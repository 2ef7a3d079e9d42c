"use strict";
// The blind test's rules, without a page: who meets whom, and what the votes say.
// A vote is {rate, clip, a, b, winner, at}; a, b: systems; winner: a system, or "" when none was better.

const Blind = {
  /** Every unordered pair of systems. */
  pairs(systems) {
    return systems.flatMap((one, i) => systems.slice(i + 1).map((other) => [one, other]));
  },

  /** The next trial: the pair heard least so far, on a random clip that has both, in random order. Null when none can be. */
  draw(clips, systems, votes, random = Math.random) {
    const pick = (list) => list[Math.floor(random() * list.length)];
    const both = (pair) => clips.filter((clip) => pair.every((name) => clip.sounds.some((s) => s.system === name)));
    const heard = (pair) => votes.filter((v) => pair.includes(v.a) && pair.includes(v.b)).length;
    const possible = Blind.pairs(systems).filter((pair) => both(pair).length > 0);
    if (possible.length === 0) return null;
    const least = Math.min(...possible.map(heard));
    const pair = pick(possible.filter((p) => heard(p) === least));
    const done = new Set(votes.filter((v) => pair.includes(v.a) && pair.includes(v.b)).map((v) => v.clip));
    const fresh = both(pair).filter((clip) => !done.has(clip.id));
    const clip = pick(fresh.length > 0 ? fresh : both(pair));
    const [a, b] = random() < 0.5 ? pair : [pair[1], pair[0]];
    return { clip, a, b };
  },

  /** Wilson score interval, 95 %, of `won` out of `decided`. Source: Wilson (1927). */
  wilson(won, decided) {
    if (decided === 0) return [0, 1];
    const z = 1.959964, share = won / decided, weight = 1 + (z * z) / decided;
    const middle = (share + (z * z) / (2 * decided)) / weight;
    const reach = (z / weight) * Math.sqrt((share * (1 - share)) / decided + (z * z) / (4 * decided * decided));
    return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
  },

  row(name, votes, wins, losses) {
    const better = votes.filter(wins).length, worse = votes.filter(losses).length, decided = better + worse;
    return {
      name, better, worse, same: votes.length - decided,
      share: decided ? better / decided : null, interval: Blind.wilson(better, decided),
    };
  },

  /** One row a system that was heard, best first. */
  standings(votes) {
    const systems = [...new Set(votes.flatMap((v) => [v.a, v.b]))];
    const of = (name) => votes.filter((v) => v.a === name || v.b === name);
    return systems
      .map((name) => Blind.row(name, of(name), (v) => v.winner === name, (v) => v.winner !== "" && v.winner !== name))
      .sort((x, y) => (y.share ?? 0.5) - (x.share ?? 0.5) || y.better - x.better);
  },

  /** One row a pair that was heard. */
  duels(votes) {
    const met = new Map();
    for (const vote of votes) {
      const pair = [vote.a, vote.b].sort(), key = pair.join(" and ");
      if (!met.has(key)) met.set(key, { pair, votes: [] });
      met.get(key).votes.push(vote);
    }
    return [...met].map(([key, { pair, votes: own }]) =>
      Blind.row(key, own, (v) => v.winner === pair[0], (v) => v.winner === pair[1]));
  },

  csv(votes) {
    const cell = (value) => `"${String(value).replaceAll('"', '""')}"`;
    const rows = votes.map((v) => [v.at, v.rate, v.clip, v.a, v.b, v.winner].map(cell).join(","));
    return ["at,rate,clip,a,b,winner", ...rows].join("\n") + "\n";
  },
};
