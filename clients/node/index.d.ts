/** The longest step that can be declared, in milliseconds. */
export const MAX_BUSY: number;
/** Counters and gauges together; a handle beyond them works and is not reported. */
export const MAX_NAMES: number;
/** Workers; one beyond them is not asked. */
export const MAX_WORKERS: number;

export interface Options {
  /** `READY=1` at once. Default: true. */
  ready?: boolean;
  /** Only `tick()` moves the tick. Default: false. */
  ownTicks?: boolean;
  /** Milliseconds between two beats, 100 to 10000. Default: 1000, and at least twice in `WATCHDOG_USEC`. */
  every?: number;
}

/** Something that was begun and has to be ended; with `using`, too, where the runtime knows it. */
export interface Step {
  end(): void;
}

/** Progress: it only grows. */
export declare class Counter {
  readonly value: number;
  increment(by?: number): void;
}

/** A number that may fall, such as open slots. */
export declare class Gauge {
  readonly value: number;
  set(value: number): void;
}

/** Something in the loop that has to turn, too. While one is late the tick of the whole program stands still. */
export declare class Worker {
  readonly name: string;
  readonly longest: number;
  readonly isLate: boolean;
  readonly isEnded: boolean;
  /** Call it at the end of each turn of the worker. */
  tick(): void;
  /** It is not expected any more. */
  end(): void;
  /** Milliseconds since its last turn. */
  lag(): number;
}

export declare class Heartbeat {
  private constructor();
  /** Messages that could not be sent, and connections that were not to be had. */
  readonly dropped: number;
  /** Whether it beats. */
  readonly isActive: boolean;
  /** The program's own work has turned once more (with `ownTicks`). */
  tick(): void;
  counter(name: string): Counter;
  gauge(name: string): Gauge;
  /** Somebody who has to turn at least every `longest` milliseconds, from now on. */
  worker(name: string, longest: number): Worker;
  /** The start is done. */
  ready(): void;
  /** One line for people. */
  status(text: string): void;
  /** An orderly stop has begun. */
  stopping(): void;
  /** It stopped itself on purpose and waits for a person. There is no way back in this process. */
  halted(why: string): void;
  /** A step that may rightly take `longest` milliseconds, two hours at most. */
  busy(longest: number, what?: string): Step;
  busy<T>(longest: number, work: () => T): T;
  busy<T>(longest: number, what: string | undefined, work: () => T): T;
  /** Nothing to do: counters may stand still. The loop has to turn on. */
  idle(): Step;
  idle<T>(work: () => T): T;
  /** Resolves when somebody listens; at once where nobody is spoken to. */
  connected(): Promise<void>;
  /** No more beats, and an orderly stop. */
  end(): void;
}

/** A beat, from now on. */
export declare function heartbeat(options?: Options): Heartbeat;
